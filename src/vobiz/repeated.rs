//! Keys that a record says more than once.

use std::collections::{HashMap, HashSet};

use super::CdrFields;
use super::json::Member;
use super::value::{Notes, shorten};

/// So many keys that nobody knows are noted as repeated; more of them mean a hostile text, not a helpful record.
pub(super) const MOST_REPEATED: usize = 16;

/// The members with only the last of each repeated key.
pub(super) fn last_of_each<'a>(mut members: Vec<Member<'a>>, notes: &mut Notes) -> Vec<Member<'a>> {
    let mut seen = HashMap::with_capacity(members.len());
    let (mut repeated, mut unknown) = (HashSet::new(), 0);
    for (position, member) in members.iter().enumerate() {
        if seen.insert(member.key.clone(), position).is_none() || !repeated.insert(member.key.clone()) {
            continue;
        }
        let known = matches!(&*member.key, "uuid" | "account_id") || CdrFields::KEYS.contains(&&*member.key);
        unknown += usize::from(!known);
        if known || unknown <= MOST_REPEATED {
            let written = &member.key_text[1..member.key_text.len() - 1];
            let about = if known { &member.key } else { written };
            notes.add(&shorten(about), "given more than once, the last one counts");
        }
    }
    if !repeated.is_empty() {
        let mut position = 0;
        members.retain(|member| {
            position += 1;
            seen.get(&member.key) == Some(&(position - 1))
        });
    }
    members
}
