//! The two identities. Both are text: Vobiz's `uuid` is not always a UUID (27-character base62 ids were seen in real
//! data), and an account is `MA_…`, `SA_…` or `PA_…`.

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
}

/// The id of one call: `CallUUID` in a callback, `uuid` in a CDR, the last path segment of the API.
///
/// 1 to 255 characters of `[A-Za-z0-9._:@+-]`, and never a word that would make the path of a fetch mean something
/// else (`.`, `..`, `search`, `recent`, `export`): it can be put into a URL path as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(Box<str>);

/// An account at Vobiz: `MA_…` (main), `SA_…` (sub-account) or `PA_…` (partner). The same characters as a [`CallId`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(Box<str>);

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
        _ => Ok(()),
    }
}

macro_rules! identity {
    ($name:ident) => {
        impl $name {
            /// Checks a text and takes it as it is: nothing is trimmed, lowered or decoded.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check(text).map(|()| Self(text.into()))
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
