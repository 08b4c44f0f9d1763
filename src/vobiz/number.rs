//! Phone numbers in one form, so that the same caller counts once however Vobiz spelt the number. The number as it came
//! is kept beside it; a spelling that is not certain gives nothing rather than a wrong number.

use std::fmt;

/// The country whose national numbers arrive without a calling code, as that code: `91` is India.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HomeCountry(u16);

/// Why a text is no calling code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a country calling code has one to three digits and starts with 1 to 9, like 91")]
pub struct InvalidCountry;

impl HomeCountry {
    /// India.
    pub const INDIA: Self = Self(91);

    /// One to three digits; a `+` before them is tolerated.
    pub fn new(code: &str) -> Result<Self, InvalidCountry> {
        let digits = code.strip_prefix('+').unwrap_or(code);
        let plausible = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !plausible || digits.starts_with('0') {
            return Err(InvalidCountry);
        }
        digits.parse().map(Self).map_err(|_| InvalidCountry)
    }

    /// Could a national number of this country (without its 0) have so many digits? Indian ones have ten; elsewhere
    /// anything from seven up that E.164 leaves room for.
    fn has_numbers_of(self, digits: usize) -> bool {
        let most = 15 - self.to_string().len();
        if self == Self::INDIA { digits == 10 } else { (7..=most).contains(&digits) }
    }
}

impl Default for HomeCountry {
    fn default() -> Self {
        Self::INDIA
    }
}

impl std::str::FromStr for HomeCountry {
    type Err = InvalidCountry;

    fn from_str(code: &str) -> Result<Self, InvalidCountry> {
        Self::new(code)
    }
}

impl fmt::Display for HomeCountry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number as `+` and 7 to 15 digits, or None where that would be a guess.
///
/// Spaces and `- ( ) .` are dropped; any other character that is no digit (a SIP address, a name, a second `+`) makes
/// it no number. Then the first rule that fits decides:
///
/// 1. `+` and digits: kept.
/// 2. `00` and digits: the same with `+`.
/// 3. `0` and a national number: home number (captured: inbound `To` comes as `0` and ten digits).
/// 4. Ten digits: home number without its 0.
/// 5. More than ten digits that start with the home code and go on as a national number: `+` was left out (captured:
///    `From` comes as 12 digits without `+`).
/// 6. Anything else (short codes, digits of another country without `+`): None.
pub fn e164(raw: &str, home: HomeCountry) -> Option<String> {
    let mut plus = false;
    let mut digits = String::with_capacity(raw.len().min(32));
    for c in raw.chars() {
        match c {
            '0'..='9' => digits.push(c),
            '+' if digits.is_empty() && !plus => plus = true,
            ' ' | '-' | '(' | ')' | '.' => {}
            _ => return None,
        }
    }
    let international = |digits: &str| {
        let fits = (7..=15).contains(&digits.len()) && !digits.starts_with('0');
        fits.then(|| format!("+{digits}"))
    };
    if plus {
        return international(&digits);
    }
    if let Some(rest) = digits.strip_prefix("00") {
        return international(rest);
    }
    if let Some(rest) = digits.strip_prefix('0') {
        return home.has_numbers_of(rest.len()).then(|| format!("+{home}{rest}"));
    }
    if digits.len() == 10 {
        return Some(format!("+{home}{digits}"));
    }
    let national = digits.strip_prefix(&home.to_string())?;
    (digits.len() > 10 && home.has_numbers_of(national.len())).then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_form() {
        let cases = [
            ("+919876543210", Some("+919876543210")),
            ("919876543210", Some("+919876543210")),
            ("09876543210", Some("+919876543210")),
            ("9876543210", Some("+919876543210")),
            ("00919876543210", Some("+919876543210")),
            ("+91 98765-43210", Some("+919876543210")),
            ("(0987) 654.3210", Some("+919876543210")),
            // Ten digits are a national number even when they begin with the home code.
            ("9198765432", Some("+919198765432")),
            ("+14155550100", Some("+14155550100")),
            ("0014155550100", Some("+14155550100")),
            ("14155550100", None),
            ("91987654321", None),
            ("9198765432101", None),
            ("0123456789", None),
            ("+0919876543210", None),
            ("000919876543210", None),
            ("+123456", None),
            ("+1234567890123456", None),
            ("1800", None),
            ("", None),
            ("+", None),
            ("++919876543210", None),
            ("91+9876543210", None),
            ("sip:919876543210@0a1b2c3d.sip.vobiz.ai", None),
            ("anonymous", None),
            ("९८७६५४३२१०", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(e164(raw, HomeCountry::INDIA).as_deref(), expected, "{raw:?}");
        }
    }

    #[test]
    fn another_home_reads_its_own_numbers() {
        let britain = HomeCountry::new("44").unwrap();
        assert_eq!(e164("020 7946 0018", britain).as_deref(), Some("+442079460018"));
        assert_eq!(e164("442079460018", britain).as_deref(), Some("+442079460018"));
        assert_eq!(e164("919876543210", britain), None);
    }

    #[test]
    fn a_calling_code_is_checked() {
        assert_eq!(HomeCountry::new("+91"), Ok(HomeCountry::INDIA));
        for code in ["", "+", "0", "091", "1234", "9a", "IN", "-1"] {
            assert_eq!(HomeCountry::new(code), Err(InvalidCountry), "{code:?}");
        }
    }
}
