//! Phone numbers in one form, so that the same caller counts once however Vobiz spelt the number. The number as it came
//! is kept beside it; a spelling that is not certain gives nothing rather than a wrong number.

use std::fmt;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat};

use super::value::{Notes, shorten};

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

    /// Are these more than ten digits its code and a national number?
    fn begins(self, digits: &str) -> bool {
        let national = digits.strip_prefix(&self.to_string());
        digits.len() > 10 && national.is_some_and(|national| self.has_numbers_of(national.len()))
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

/// The number as `+` and 7 to 15 digits, or None where that would be a guess: `read` of a record that has no other number.
pub fn e164(raw: &str, home: HomeCountry) -> Option<String> {
    read(raw, None, home).0
}

/// The number as `+` and 7 to 15 digits, or None where that would be a guess; and what there is to say about the guess: whatever looks
/// like a phone number is read or has a note.
///
/// Blanks, dashes and `( ) .` are dropped, and `tel:` before it; any other character that is no digit (a SIP address, a name, a second
/// `+`) makes it no number. Then the first rule that fits decides:
///
/// 1. `+` and digits: kept. A `(0)` behind the country's code is in the number or not, as its country has it.
/// 2. `00` and digits: the same with `+`.
/// 3. `0` and a national number: home number (captured: inbound `To` comes as `0` and ten digits).
/// 4. More than ten digits that start with the home code and go on as a national number: `+` was left out (captured:
///    `From` comes as 12 digits without `+`).
/// 5. Digits that are a number of the home country and of no other: home number without its 0.
/// 6. Digits that are a number with a country's code and none without it: that one, if the code is the home country's, if they are
///    more than ten and too many for a number at home, or if the `other` number of the same record shows that numbers are written so.
///    Only the record is asked, so that it is read the same for ever.
/// 7. Anything else: None, with a note: they may be two numbers (6591234567 in India and in Singapore) or a series that is newer than
///    what is known here. Fewer than seven digits without `+` are a short code, which has no such form.
///
/// What is a number of which country is what libphonenumber calls valid, not merely possible.
fn read(raw: &str, other: Option<&str>, home: HomeCountry) -> (Option<String>, Option<String>) {
    let unread = || (None, Some(format!("not read as a number: {}", shorten(&format!("{raw:?}")))));
    let digits = match written(raw) {
        Some(Introduced::International(digits)) if raw.contains("(0)") => {
            let without = written(&raw.replacen("(0)", "", 1));
            let Some(Introduced::International(without)) = without else { return unread() };
            return match (valid(format!("+{digits}")), valid(format!("+{without}"))) {
                (Some(number), None) | (None, Some(number)) => (Some(number), None),
                _ => unread(),
            };
        }
        Some(Introduced::International(digits)) => {
            let fits = (7..=15).contains(&digits.len()) && !digits.starts_with('0');
            return if fits { (Some(format!("+{digits}")), None) } else { unread() };
        }
        Some(Introduced::National(rest)) => {
            let number = format!("+{home}{rest}");
            return if home.has_numbers_of(rest.len()) || valid(number.clone()).is_some() {
                (Some(number), None)
            } else if rest.len() + 1 < FEWEST {
                (None, None)
            } else {
                unread()
            };
        }
        Some(Introduced::Bare(digits)) => digits,
        None if looks_like_a_number(raw) => return unread(),
        None => return (None, None),
    };
    if home.begins(&digits) {
        return (Some(format!("+{digits}")), None);
    }
    let here = valid(format!("+{home}{digits}"));
    let abroad = valid(format!("+{digits}"));
    match (here, abroad) {
        (Some(here), Some(abroad)) => (None, Some(format!("not certain: may be {here} or {abroad}"))),
        (Some(here), None) => (Some(here), None),
        (None, Some(abroad))
            if digits.starts_with(&home.to_string())
                || digits.len() > 10 && !home.has_numbers_of(digits.len())
                || other.is_some_and(|other| has_code_without_plus(other, home)) =>
        {
            (Some(abroad), None)
        }
        (None, Some(abroad)) => (None, Some(format!("not certain: may be {abroad}"))),
        (None, None) if digits.len() < FEWEST => (None, None),
        (None, None) => (None, Some(format!("no number of +{home} that is known: {}", shorten(&digits)))),
    }
}

/// Fewer digits are a short code or an extension.
const FEWEST: usize = 7;

/// Whether somebody may have meant a phone number, although it has other characters: enough digits, and no address or name.
fn looks_like_a_number(raw: &str) -> bool {
    let digits = raw.chars().filter(|c| c.is_numeric()).count();
    let letters = raw.chars().filter(|c| c.is_alphabetic()).count();
    let begins = raw.trim().starts_with(|c: char| c.is_numeric() || c == '+');
    digits >= FEWEST && !raw.contains('@') && (letters == 0 || begins && letters * 2 <= digits)
}

/// Caller and destination of one record; what is not certain is noted.
pub(super) fn read_both(
    caller: Option<&str>,
    destination: Option<&str>,
    home: HomeCountry,
    notes: &mut Notes,
) -> (Option<String>, Option<String>) {
    let mut of = |field: &str, raw: Option<&str>, other| {
        let (number, complaint) = read(raw?, other, home);
        if let Some(complaint) = complaint {
            notes.add(field, &complaint);
        }
        number
    };
    (of("caller_e164", caller, destination), of("destination_e164", destination, caller))
}

/// How the digits of a number are introduced.
enum Introduced {
    /// By `+` or `00`.
    International(String),
    /// By `0`.
    National(String),
    /// By nothing.
    Bare(String),
}

/// None of a text that is no number.
fn written(raw: &str) -> Option<Introduced> {
    let mut plus = false;
    let mut digits = String::with_capacity(raw.len().min(32));
    let raw =
        raw.get(..4).filter(|uri| uri.eq_ignore_ascii_case("tel:")).map_or(raw, |uri| &raw[uri.len()..]);
    for c in raw.chars() {
        match c {
            '0'..='9' => digits.push(c),
            '+' | '\u{ff0b}' if digits.is_empty() && !plus => plus = true,
            // With dashes of print, and the marks that come along where a number is copied from a screen.
            '-'
            | '('
            | ')'
            | '.'
            | '\u{2010}'..='\u{2015}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}' => {}
            _ if c.is_whitespace() => {}
            _ => return None,
        }
    }
    Some(match digits.strip_prefix('0') {
        _ if digits.is_empty() => return None,
        _ if plus => Introduced::International(digits),
        None => Introduced::Bare(digits),
        Some(rest) => match rest.strip_prefix('0') {
            Some(rest) => Introduced::International(rest.to_owned()),
            None => Introduced::National(rest.to_owned()),
        },
    })
}

/// Whether a number says its country, and certainly so, but has no `+`.
fn has_code_without_plus(raw: &str, home: HomeCountry) -> bool {
    let Some(Introduced::Bare(digits)) = written(raw) else { return false };
    home.begins(&digits)
        || valid(format!("+{digits}")).is_some() && valid(format!("+{home}{digits}")).is_none()
}

/// The number, if its country has it. What is known of the countries is loaded once in the life of the process.
fn valid(number: String) -> Option<String> {
    if !(8..=16).contains(&number.len()) {
        return None;
    }
    let known = PHONE_NUMBER_UTIL.parse(&number, None).ok()?;
    // Reading drops a national 0 behind the country code: then it is another number that is valid.
    (known.is_valid() && known.format_as(PhoneNumberFormat::E164) == number).then_some(number)
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
            ("+91\u{a0}98765\u{2011}43210", Some("+919876543210")),
            ("\u{202a}+919876543210\u{202c}", Some("+919876543210")),
            ("tel:+919876543210", Some("+919876543210")),
            ("Tel:9876543210", Some("+919876543210")),
            ("+44 (0)7911 123456", Some("+447911123456")),
            ("+39 (0)6 6982 1234", Some("+390669821234")),
            ("14155550100", Some("+14155550100")),
            ("447911123456", Some("+447911123456")),
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

    #[track_caller]
    fn reads(raw: &str, other: &str, number: Option<&str>, note: &str) {
        let (read, said) = read(raw, Some(other), HomeCountry::INDIA);
        assert_eq!(
            (read.as_deref(), said.unwrap_or_default()),
            (number, note.to_owned()),
            "{raw} beside {other}"
        );
    }

    const PLUS: &str = "+918000000002";
    const CODE: &str = "919000000001";
    const NATIONAL: &str = "9876543210";

    #[test]
    fn ordinary_mobiles_and_landlines_are_read_without_their_zero() {
        // A series of each beginning, also of those that begin like codes of countries: 98 is Iran, 94 Sri Lanka, 7 Russia.
        for digits in [
            "9876543210",
            "9811098110",
            "9444012345",
            "7012345678",
            "7876543210",
            "8012345678",
            "8130012345",
            "9000000001",
            "9900112233",
            "9988776655",
            "9711012345",
            "1145678901",
            "2245678901",
            "8045678901",
        ] {
            for other in [PLUS, CODE, NATIONAL, "", "anonymous"] {
                reads(digits, other, Some(&format!("+91{digits}")), "");
            }
        }
    }

    #[test]
    fn ten_digits_that_two_countries_have_are_neither() {
        for digits in COLLIDING {
            for other in [PLUS, CODE, NATIONAL, "6531234567"] {
                reads(digits, other, None, &format!("not certain: may be +91{digits} or +{digits}"));
            }
        }
    }

    /// A number of each country that shares ten digits with mobiles of India.
    const COLLIDING: [&str; 20] = [
        "6499962283", // New Zealand
        "6062809642", // Malaysia
        "6618170830", // Thailand
        "6291736662", // Indonesia
        "6591718758", // Singapore
        "6591234567",
        "6531234567",
        "8223149888", // South Korea
        "9513500049", // Myanmar
        "9616375291", // Lebanon
        "6734285677", // Brunei
        "9671627348", // Yemen
        "9607771234", // Maldives
        "9606887299",
        "9754750585", // Bhutan
        "8469464738", // Vietnam
        "8808041772", // Bangladesh
        "9742197391", // Qatar
        "9280088063", // Pakistan
        "2975612345", // Aruba, and a landline
    ];

    #[test]
    fn ten_digits_of_another_country_are_read_where_the_record_writes_codes_without_plus() {
        for digits in ["4791234567", "4532123456", "5072123456", "3598123456"] {
            let number = format!("+{digits}");
            for other in [CODE, "971501234567", "14155550100", "4740612345"] {
                reads(digits, other, Some(&number), "");
            }
            for other in [PLUS, NATIONAL, "09876543210", "00919000000001", "9607771234", "", "sip:91@x"] {
                reads(digits, other, None, &format!("not certain: may be {number}"));
            }
        }
        reads("971501234567", CODE, Some("+971501234567"), "");
        reads("5061234567", CODE, None, "no number of +91 that is known: 5061234567");
        // Toll-free in India, and in the United States.
        reads("18002345678", CODE, None, "not certain: may be +9118002345678 or +18002345678");
    }

    #[test]
    fn more_digits_than_a_number_at_home_has_are_read_with_their_code_whatever_the_other_number_is() {
        for (digits, number) in [
            ("447911123456", "+447911123456"),
            ("971501234567", "+971501234567"),
            ("14155550100", "+14155550100"),
            ("4915112345678", "+4915112345678"),
        ] {
            for other in [PLUS, CODE, NATIONAL, "", "anonymous"] {
                reads(digits, other, Some(number), "");
            }
        }
    }

    #[test]
    fn no_number_is_lost_without_a_note() {
        for (raw, note) in [
            ("91987654321", "no number of +91 that is known: 91987654321"),
            ("9198765432101", "no number of +91 that is known: 9198765432101"),
            ("1234567", "no number of +91 that is known: 1234567"),
            ("0123456789", "not read as a number: \"0123456789\""),
            ("0919876543210", "not read as a number: \"0919876543210\""),
            ("+0919876543210", "not read as a number: \"+0919876543210\""),
            ("+123456", "not read as a number: \"+123456\""),
            ("+1234567890123456", "not read as a number: \"+1234567890123456\""),
            ("++919876543210", "not read as a number: \"++919876543210\""),
            ("91+9876543210", "not read as a number: \"91+9876543210\""),
            ("+919876543210 ext 12", "not read as a number: \"+919876543210 ext 12\""),
            ("९८७६५४३२१०", "not read as a number: \"९८७६५४३२१०\""),
        ] {
            for other in [PLUS, CODE, ""] {
                reads(raw, other, None, note);
            }
        }
        reads("29022158", PLUS, None, "not certain: may be +29022158");
        // A short code, a name and an address have no such form.
        for raw in [
            "1800",
            "112",
            "0800",
            "",
            "+",
            "anonymous",
            "Asha 2",
            "sip:919876543210@0a1b2c3d.sip.vobiz.ai",
            "0a1b2c3d4e5f6789",
            "agent1234567",
        ] {
            reads(raw, PLUS, None, "");
        }
    }

    proptest::proptest! {
        #[test]
        fn digits_are_read_or_noted(raw in "[+]?[0-9 ()-]{0,4}[0-9]{7,17}", other in "[+]?[0-9]{0,12}") {
            let (number, note) = read(&raw, Some(&other), HomeCountry::INDIA);
            proptest::prop_assert!(number.is_some() != note.is_some(), "{raw} {number:?} {note:?}");
        }
    }

    #[test]
    fn another_home_reads_its_own_numbers() {
        let britain = HomeCountry::new("44").unwrap();
        assert_eq!(e164("020 7946 0018", britain).as_deref(), Some("+442079460018"));
        assert_eq!(e164("442079460018", britain).as_deref(), Some("+442079460018"));
        assert_eq!(e164("919876543210", britain), None);
        assert_eq!(e164("2079460018", britain).as_deref(), Some("+442079460018"));
        assert_eq!(e164("4791234567", britain), None);
        // Eight digits there; ten that begin so are its own, with its code.
        let singapore = HomeCountry::new("65").unwrap();
        assert_eq!(e164("91234567", singapore).as_deref(), Some("+6591234567"));
        assert_eq!(e164("6591234567", singapore).as_deref(), Some("+6591234567"));
        assert_eq!(e164("9876543210", singapore), None);
    }

    #[test]
    fn a_calling_code_is_checked() {
        assert_eq!(HomeCountry::new("+91"), Ok(HomeCountry::INDIA));
        for code in ["", "+", "0", "091", "1234", "9a", "IN", "-1"] {
            assert_eq!(HomeCountry::new(code), Err(InvalidCountry), "{code:?}");
        }
    }
}
