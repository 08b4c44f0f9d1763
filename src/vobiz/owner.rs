//! Whose a record is: the account that was asked, or one below it; anything else must not be billed under a name that nobody gave us.

use super::cdr::Cdr;
use super::id::is_placeholder;
use super::value::{Notes, shorten};
use super::{AccountId, json};

impl Cdr {
    /// Whether the record can be of an account that was asked. The path of a main account shows its own calls and those of its
    /// sub-accounts, that of a partner those of its customers, that of a sub-account its own alone: should Vobiz write the main account
    /// above it there, this one must be configured, too. A record that names nobody is of the account that was asked.
    pub fn may_belong_to(&self, asked: &AccountId, is_configured: impl Fn(&AccountId) -> bool) -> bool {
        let Some(owner) = &self.account_id else { return self.unread_owner().is_none() };
        let is = |kind: &str| owner.as_str().strip_prefix(kind).is_some_and(is_name);
        owner == asked
            || match asked.as_str().get(..3) {
                Some("SA_") => is("MA_") && is_configured(owner),
                Some("PA_") => is("MA_") || is("SA_"),
                _ => is("SA_"),
            }
    }

    /// The owner that the record names, for a person: also one that is no account id (`{"id":"MA_1"}`, `MA_1~`).
    pub fn named_owner(&self) -> Option<&str> {
        self.account_id.as_ref().map(AccountId::as_str).or_else(|| self.unread_owner())
    }

    fn unread_owner(&self) -> Option<&str> {
        self.notes.iter().find_map(|note| note.strip_prefix(NO_ACCOUNT_ID))
    }
}

/// What stands behind the kind of an account: letters and digits, and no word for none.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()) && !is_placeholder(name)
}

/// How the note of an owner begins that is no account id.
const NO_ACCOUNT_ID: &str = "account_id: no account id: ";

/// The owner that a record names. One that is no account id has a note.
pub(super) fn account(written: &str, notes: &mut Notes) -> Option<AccountId> {
    let refused = |why: &str| format!("no account id: {}: {why}", shorten(written));
    let is_text =
        !matches!(written.as_bytes().first(), Some(b'{' | b'[')) && !matches!(written, "true" | "false");
    // A token that is no JSON is taken as null.
    if !is_text && json::not_json(written).is_none() {
        notes.add("account_id", &refused("not a text"));
        return None;
    }
    let text: String = notes.read("account_id", written)?;
    // An empty one names nobody.
    if text.trim().is_empty() {
        return None;
    }
    let account = AccountId::new(text.trim());
    if let Err(why) = &account {
        notes.add("account_id", &refused(&why.to_string()));
    }
    account.ok()
}
