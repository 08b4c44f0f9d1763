//! The currency of an amount, however it is spelled: one currency under two names would be two lines of the bill, and with two
//! currencies in a day its money cannot be compared with the one figure of a summary. Pure.

/// ISO 4217, as of 2026; without funds, metals and codes for tests.
const CODES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP \
    CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK \
    JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN \
    NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS \
    TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

/// Other spellings, in upper case, of letters and signs alone. `$` and `¥` are not among them: many countries write so. `Rs` is
/// India's, where Vobiz is.
const SPELLINGS: [(&str, &[&str]); 7] = [
    (
        "INR",
        &[
            "₹",
            "₨",
            "RS",
            "RE",
            "INRS",
            "RUPEE",
            "RUPEES",
            "RUPAYE",
            "INDIANRUPEE",
            "INDIANRUPEES",
            "INDIANRS",
            "रु",
            "रू",
            "रुपये",
            "रुपया",
            "रुपए",
        ],
    ),
    ("USD", &["US$", "$US", "USDOLLAR", "USDOLLARS", "UNITEDSTATESDOLLAR"]),
    ("EUR", &["€", "EURO", "EUROS"]),
    ("GBP", &["£", "UK£", "POUNDSTERLING", "POUNDSSTERLING", "BRITISHPOUND", "BRITISHPOUNDS", "STERLING"]),
    ("AED", &["UAEDIRHAM", "UAEDIRHAMS"]),
    ("SGD", &["S$", "SG$", "SINGAPOREDOLLAR", "SINGAPOREDOLLARS"]),
    ("AUD", &["A$", "AU$", "AUSTRALIANDOLLAR", "AUSTRALIANDOLLARS"]),
];

/// Whether a code is that of a currency.
pub fn is_currency(code: &str) -> bool {
    code.len() == 3 && CODES.split_ascii_whitespace().any(|known| known == code)
}

/// The code of a currency, if this certainly names one: its code, its sign or its name, or several of these that agree (`INR (₹)`).
pub(super) fn code(word: &str) -> Option<&'static str> {
    let signs = |c: &char| c.is_alphanumeric() || "₹₨$€£".contains(*c);
    of_squeezed(&word.to_uppercase().chars().filter(signs).collect::<String>())
}

fn of_squeezed(word: &str) -> Option<&'static str> {
    CODES.split_ascii_whitespace().find(|known| *known == word).or_else(|| named(word)).or_else(|| {
        // Two of them in a row.
        (1..word.len()).filter(|at| word.is_char_boundary(*at)).find_map(|at| {
            let (before, after) = word.split_at(at);
            let one =
                |part| CODES.split_ascii_whitespace().find(|known| *known == part).or_else(|| named(part));
            let (first, second) = (one(before)?, one(after)?);
            (first == second).then_some(first)
        })
    })
}

fn named(word: &str) -> Option<&'static str> {
    SPELLINGS.iter().find(|(_, spellings)| spellings.contains(&word)).map(|(code, _)| *code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_currency_has_one_code() {
        for (known, spellings) in [
            (
                "INR",
                &[
                    "INR",
                    "inr",
                    " INR ",
                    "INR.",
                    "I.N.R.",
                    "₹",
                    "₹.",
                    "Rs",
                    "rs",
                    "Rs.",
                    "RS.",
                    "Rs/-",
                    "Re.",
                    "Rupee",
                    "rupees",
                    "Indian Rupees",
                    "INR (₹)",
                    "₹ INR",
                    "Rs. (INR)",
                    "₨",
                    "रु.",
                    "रुपये",
                    "\u{feff}INR\u{200b}",
                ][..],
            ),
            ("USD", &["usd", "US$", "U.S. $", "US Dollar", "USD ($US)"][..]),
            ("EUR", &["€", "Euro", "EUR €", "euros"][..]),
            ("GBP", &["£", "gbp", "GBP £", "Pound Sterling"][..]),
        ] {
            for spelling in spellings {
                assert_eq!(code(spelling), Some(known), "{spelling:?}");
            }
        }
        for unknown in [
            "$", "¥", "dollar", "dollars", "pound", "INR USD", "INR$", "₹$", "IRN", "XTS", "ZZZ", "credits",
            "paise", "0.45", "", ".",
        ] {
            assert_eq!(code(unknown), None, "{unknown:?}");
        }
        assert!(is_currency("INR") && is_currency("ZWG") && is_currency("AED"));
        assert!(!["inr", "IN", "AED AFN", "XTS", "", " IN", "₹"].into_iter().any(is_currency));
    }

    proptest! {
        #[test]
        fn any_text_names_one_currency_or_none(word in any::<String>()) {
            prop_assert!(code(&word).is_none_or(is_currency));
        }
    }
}
