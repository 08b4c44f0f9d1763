//! A filter of the list of CDRs.

/// So long a number is at least. Of a shorter one the last two digits would tell much.
const LONG: usize = 7;

/// A filter of the list, and what it is to let through. As text it shows no number of a person: that text stands in reasons and logs.
#[derive(Clone, PartialEq, Eq)]
pub struct ListFilter {
    /// Its parameter, such as `hangup_cause` (documented since 30 June 2026; `call_direction` before).
    parameter: &'static str,
    value: String,
    /// Its place among the values by which a list is cut, from 1: two numbers may end alike.
    place: usize,
}

impl ListFilter {
    /// The filter that lets one of several values through, by its place among them, from 1.
    pub fn new(parameter: &'static str, value: String, place: usize) -> Self {
        Self { parameter, value, place }
    }

    /// Its parameter.
    pub fn parameter(&self) -> &'static str {
        self.parameter
    }

    /// What it lets through: for the request, and for no text.
    pub(super) fn value(&self) -> &str {
        &self.value
    }

    /// Whether it may be a number of a person. What a context is called is up to the customer.
    fn holds_number(&self) -> bool {
        let digits = self.value.bytes().filter(u8::is_ascii_digit).count();
        matches!(self.parameter, "from_number" | "to_number") || digits >= LONG
    }
}

impl std::fmt::Display for ListFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { parameter, value, place } = self;
        if !self.holds_number() {
            return write!(f, "{parameter} {value}");
        }
        let end = value.len().checked_sub(2).and_then(|at| value.get(at..));
        let end = end.filter(|end| value.len() >= LONG && end.bytes().all(|byte| byte.is_ascii_digit()));
        write!(f, "{parameter} {place} (…{})", end.unwrap_or_default())
    }
}

impl std::fmt::Debug for ListFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_by_number_shows_no_number() {
        for (parameter, value, shown) in [
            ("from_number", "919876543210", "from_number 3 (…10)"),
            ("to_number", "+91 98765 43210", "to_number 3 (…10)"),
            ("from_number", "55512", "from_number 3 (…)"),
            ("to_number", "sip:alice@example.com", "to_number 3 (…)"),
            ("from_number", "anonymé", "from_number 3 (…)"),
            ("hangup_cause", "NORMAL_CLEARING", "hangup_cause NORMAL_CLEARING"),
            ("context", "voice-api", "context voice-api"),
            ("context", "+91 98765 43210", "context 3 (…10)"),
            ("hangup_disposition", "refused by 919876543210", "hangup_disposition 3 (…10)"),
        ] {
            let filter = ListFilter::new(parameter, value.into(), 3);
            assert_eq!((filter.to_string(), format!("{filter:?}")), (shown.into(), shown.into()));
        }
    }
}
