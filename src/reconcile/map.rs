//! The map of a table that the owner has already: which of its columns says what, and how rows that do not name a call are
//! recognised. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::Wrong;
use crate::db::reconcile::{COLUMNS, Matching};

/// The content of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The column of each of [`COLUMNS`], where the table has it.
    pub columns: [Option<String>; COLUMNS.len()],
    /// Time zone of timestamps without one.
    pub zone: String,
    /// How rows are recognised by numbers and start.
    pub matching: Matching,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    columns: Columns,
    #[serde(default = "utc")]
    zone: String,
    #[serde(default, rename = "match")]
    matching: Match,
}

fn utc() -> String {
    "UTC".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    call_id: Option<String>,
    account_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    started_at: Option<String>,
    duration: Option<String>,
    billsec: Option<String>,
    cost: Option<String>,
    streaming_cost: Option<String>,
    total_cost: Option<String>,
    currency: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Match {
    tolerance: String,
    digits: i32,
}

impl Default for Match {
    fn default() -> Self {
        Self { tolerance: "60s".to_owned(), digits: 10 }
    }
}

impl Map {
    /// Reads a map from its TOML.
    pub fn read(text: &str) -> Result<Self, Wrong> {
        let file: File = toml::from_str(text).map_err(|error| Wrong::Map(error.to_string()))?;
        let wrong = |why: &str| Err(Wrong::Map(why.to_owned()));
        let Columns {
            call_id,
            account_id,
            from,
            to,
            started_at,
            duration,
            billsec,
            cost,
            streaming_cost,
            total_cost,
            currency,
        } = file.columns;
        let by_numbers = from.is_some() && to.is_some() && started_at.is_some();
        if call_id.is_none() && !by_numbers {
            return wrong(
                "[columns] must name call_id, or all of from, to and started_at: else no row can be recognised",
            );
        }
        let tolerance = match humantime::parse_duration(&file.matching.tolerance) {
            Ok(tolerance) if tolerance <= Duration::from_secs(86_400) => tolerance,
            _ => return wrong("tolerance: write a duration of at most a day, such as \"60s\""),
        };
        if !(4..=15).contains(&file.matching.digits) {
            return wrong(
                "digits: write how many last digits make a number the same, from 4 to 15, such as 10",
            );
        }
        let columns = [
            call_id,
            account_id,
            from,
            to,
            started_at,
            duration,
            billsec,
            cost,
            streaming_cost,
            total_cost,
            currency,
        ];
        Ok(Self { columns, zone: file.zone, matching: Matching { tolerance, digits: file.matching.digits } })
    }

    /// Whether the table has a column for this.
    pub fn has(&self, name: &str) -> bool {
        COLUMNS.iter().zip(&self.columns).any(|(ours, theirs)| *ours == name && theirs.is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_map_says_where_what_is() {
        let map = Map::read(
            "zone = \"Asia/Kolkata\"\n[columns]\nfrom = \"caller\"\nto = \"callee\"\nstarted_at = \"at\"\ncost = \"Amount Rs\"\n\
             [match]\ntolerance = \"2m\"",
        )
        .unwrap();
        assert!(map.has("cost") && map.has("from") && !map.has("call_id"));
        assert_eq!(map.columns[7].as_deref(), Some("Amount Rs"));
        assert_eq!(map.matching, Matching { tolerance: Duration::from_secs(120), digits: 10 });
        assert_eq!(map.zone, "Asia/Kolkata");
        assert_eq!(Map::read("columns.call_id = \"uuid\"").unwrap().zone, "UTC");
    }

    #[test]
    fn a_map_that_does_not_do_says_why() {
        let wrong = |text: &str| Map::read(text).unwrap_err().to_string();
        assert!(wrong("[columns]\nfrom = \"a\"\nto = \"b\"").contains("started_at"));
        assert!(wrong("[columns]\ncal_id = \"a\"").contains("cal_id"));
        assert!(wrong("zone = \"UTC\"").contains("columns"));
        for wrong_match in ["tolerance = \"60\"", "tolerance = \"2d\"", "digits = 3", "digits = \"x\""] {
            wrong(&format!("[columns]\ncall_id = \"a\"\n[match]\n{wrong_match}"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_map_or_an_error(any in any::<String>()) {
            let _ = Map::read(&any);
        }
    }
}
