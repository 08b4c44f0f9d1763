//! Days on the command line.

use chrono::NaiveDate;

/// Reads a day; what cannot be meant so says how to write one.
pub(crate) fn day(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .filter(|day| day.to_string() == text)
        .ok_or_else(|| "write a day of the calendar as YYYY-MM-DD, such as 2026-03-31".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_out_and_nothing_else_is_one() {
        assert_eq!(day("2026-03-31"), Ok(NaiveDate::from_ymd_opt(2026, 3, 31).unwrap()));
        for text in
            ["", "2026-03", "2026-13-01", "2026-02-30", "26-03-01", "2026-3-01", "yesterday", "+2026-03-1"]
        {
            assert!(day(text).unwrap_err().contains("YYYY-MM-DD"), "{text}");
        }
    }
}
