//! The two identities. Both are text: Vobiz's `uuid` is not always a UUID (27-character base62 ids were seen in real
//! data), and an account is `MA_…`, `SA_…` or `PA_…`.

use std::borrow::Cow;
use std::fmt;

/// Why a text is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Shorter than 1 or longer than 255 bytes.
    #[error("an id has 1 to 255 characters, this one has {0}")]
    Length(usize),
    /// A character outside `[A-Za-z0-9._:@+-]`.
    #[error("an id is made of letters, digits and . _ : @ + - only")]
    Character,
    /// A text that would name another endpoint when put into the path.
    #[error("{0:?} names another endpoint, not a call")]
    Reserved(String),
    /// What a program writes where it has no id.
    #[error("{0:?} stands for no id")]
    Placeholder(String),
}

/// The id of one call: `CallUUID` in a callback, `uuid` in a CDR, the last path segment of the API.
///
/// 1 to 255 characters of `[A-Za-z0-9._:@+-]`, and never a word that would make the path of a fetch mean something
/// else (`.`, `..`, `search`, `recent`, `export`): it can be put into a URL path as it is. Nor is it a word for "none"
/// (`undefined`, `null`, `0`). A UUID is kept in lower case: in another case it is the same call.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(Box<str>);

/// An account at Vobiz: `MA_…` (main), `SA_…` (sub-account) or `PA_…` (partner). The same characters as a [`CallId`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(Box<str>);

/// What programs write where they have no id: JavaScript, Python, Go, SQL; a template that was not filled in.
const PLACEHOLDERS: [&str; 13] = [
    "undefined",
    "null",
    "none",
    "nil",
    "nan",
    "true",
    "false",
    "unknown",
    "empty",
    "uuid",
    "calluuid",
    "call_uuid",
    "call-uuid",
];

/// Whether a text stands for no id, in whatever case. Zeros alone are none, and so is a UUID of nothing else.
pub(super) fn is_placeholder(text: &str) -> bool {
    let only = |allowed: &[u8]| text.bytes().all(|b| allowed.contains(&b));
    only(b"0")
        || only(b"-")
        || (text.len() == 36 && only(b"0-"))
        || matches!(text, "-1" | "0.0")
        || text.contains("{{")
        || PLACEHOLDERS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A UUID in lower case; anything else as it is. Its version is not asked for: captured ids have impossible ones.
pub(super) fn uuid_in_lower_case(text: &str) -> Cow<'_, str> {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if is_uuid { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) }
}

fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() || text.len() > 255 {
        return Err(InvalidId::Length(text.len()));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@+-".contains(&b);
    if !text.bytes().all(allowed) {
        return Err(InvalidId::Character);
    }
    match text {
        "." | ".." | "search" | "recent" | "export" => Err(InvalidId::Reserved(text.to_owned())),
        _ if is_placeholder(text) => Err(InvalidId::Placeholder(text.to_owned())),
        _ => Ok(()),
    }
}

impl AccountId {
    /// Whether it is a sub-account, whose calls are of a main account as well.
    pub fn is_sub_account(&self) -> bool {
        self.as_str().starts_with("SA_")
    }
}

macro_rules! identity {
    ($name:ident) => {
        impl $name {
            /// Checks a text and takes it as it is: nothing is trimmed or decoded, and nothing lowered but a UUID.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check(text).map(|()| Self(uuid_in_lower_case(text).into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identity!(CallId);
identity!(AccountId);

impl CallId {
    /// The key of a further record that Vobiz keeps under this id, told apart by its number: `id~number`. No id of Vobiz's is like it,
    /// because none has a `~`; nor can it be asked for, and [`CallId::new`] refuses it.
    #[must_use]
    pub fn of_further_record(&self, vobiz_id: i64) -> Self {
        Self(format!("{}~{vobiz_id}", self.0).into())
    }

    /// The uuid in a key, whether it is that of a further record or not.
    pub fn uuid_of(key: &str) -> &str {
        key.rsplit_once('~').map_or(key, |(uuid, _)| uuid)
    }

    /// The number in the key of a further record; `None` for any other key.
    pub fn number_of_further_record(key: &str) -> Option<i64> {
        key.rsplit_once('~')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_ids_are_taken_as_they_are() {
        for id in
            ["5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10", "hQ7Zp2kLmT9vXc4RbN8sWd1YfGj3", "abc123@10.0.0.1", "a"]
        {
            assert_eq!(CallId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn a_word_for_none_is_no_id() {
        for word in [
            "undefined",
            "Undefined",
            "null",
            "NULL",
            "None",
            "nil",
            "NaN",
            "0",
            "000",
            "0.0",
            "-1",
            "-",
            "--",
            "false",
            "unknown",
            "CallUUID",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(CallId::new(word), Err(InvalidId::Placeholder(word.into())));
        }
        for word in ["{{CallUUID}}", "${CallUUID}", "", " ", "(null)", "%7B%7Bx%7D%7D"] {
            assert!(CallId::new(word).is_err(), "{word}");
        }
        for id in ["10", "0-0", "nullable", "0a", "18623590", "00000000-0000-4000-8000-000000000000"] {
            assert_eq!(CallId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn a_uuid_has_no_case_and_other_ids_do() {
        let id = |text: &str| CallId::new(text).unwrap();
        assert_eq!(id("5F0E9C1A-3B77-4C0D-9A52-6F1E8D2B4A10"), id("5f0e9c1a-3b77-4c0d-9a52-6f1e8d2b4a10"));
        assert_eq!(
            id("5F0E9C1A-3B77-123F-0A52-6F1E8D2B4A1F").as_str(),
            "5f0e9c1a-3b77-123f-0a52-6f1e8d2b4a1f"
        );
        for text in [
            "hQ7Zp2kLmT9vXc4RbN8sWd1YfGj3",
            "5F0E9C1A3B774C0D9A526F1E8D2B4A10",
            "5F0E9C1A-3B77-4C0D-9A52-6F1E8D2B4A1G",
        ] {
            assert_eq!(id(text).as_str(), text);
        }
    }

    #[test]
    fn an_id_cannot_leave_its_path_segment() {
        for id in [
            "", ".", "..", "search", "recent", "export", "a/b", "a?b", "a#b", "a%2fb", "a b", "ä", "a\0",
            "a\n",
        ] {
            assert!(CallId::new(id).is_err(), "{id:?}");
        }
        assert!(CallId::new(&"x".repeat(255)).is_ok());
        assert_eq!(CallId::new(&"x".repeat(256)), Err(InvalidId::Length(256)));
    }
}
