//! The columns of `vobiz.cdr` that a CDR fills: the one list that inserting, updating and comparing are made of.
//!
//! A documented field of Vobiz's is a column because it stands in [`cdr_fields`](crate::vobiz::cdr_fields); beside those there
//! are the ones below, each with a rule of its own. (`call_id` is the key, `revision` is counted, the others Postgres fills.)

/// Hands the columns to `$layout` (see [`numbered`](crate::db::base::columns::numbered)), behind two parameters of the
/// statement's own. The three texts of each column are SQL:
/// - what is inserted, of the row `n` that came in;
/// - what the row `c` gets that is stored already, if anything: `$1 = 2` where a row of a list leaves what it does not say;
/// - when a row built anew differs from the stored one.
macro_rules! columns {
    ($layout:ident) => {
        $crate::vobiz::cdr_fields! {
            ($crate::db::base::columns::numbered) $layout: _; _;
            // A row of a list that names no owner does not change the owner, but that of a sub-account's own list.
            "account_id" "text": &str = |row| row.account_id().as_str(); {
                {"n.account_id"}
                {r"account_id = case when $1 = 2 and excluded.account_id = excluded.listed_by and excluded.listed_by not like 'SA\_%'
                                    then c.account_id else excluded.account_id end"}
                {"c.account_id is distinct from n.account_id"}
            }
            "listed_by" "text": &str = |row| row.listed_by.as_str(); {
                {"n.listed_by"} {"listed_by = excluded.listed_by"} {"false"}
            }
            "origin" "text": &str = |row| row.origin.as_str(); { {"n.origin"} {} {"false"} }
            "first_callback_at" "timestamptz": Option<DateTime<Utc>> = |row| row.announced_at; {
                {"n.first_callback_at"}
                {"first_callback_at = least(c.first_callback_at, excluded.first_callback_at)"}
                {"false"}
            }
            "attempts" "int4": i32 = |row| row.attempts; { {"n.attempts"} {} {"false"} }
            // A newer updated_at may come with an older request: keeping the later time would let it win over versions that are
            // newer than it. Nor does a sub-account's own word that comes to that of others take over the time of theirs.
            "fetched_at" "timestamptz": DateTime<Utc> = |row| row.requested_at; {
                {"n.fetched_at"}
                {r"fetched_at = case when excluded.updated_at is not distinct from c.updated_at
                                      and (excluded.listed_by = c.listed_by or excluded.listed_by <> excluded.account_id
                                           or excluded.listed_by not like 'SA\_%')
                                    then greatest(c.fetched_at, excluded.fetched_at) else excluded.fetched_at end"}
                {"false"}
            }
            "content_hash" "bytea": &[u8] = |row| row.content_hash.as_slice(); {
                {"n.content_hash"} {"content_hash = excluded.content_hash"} {"c.content_hash is distinct from n.content_hash"}
            }
            // Taking JSON apart reads its escapes, and not each of them is one that text can hold: such rows are built anew
            // afterwards (see `upsert`). Nor can Postgres compare everything that type json keeps: `differ` is told.
            "extra" "text": Option<&str> = |row| row.cdr.extra.as_deref(); {
                {"n.extra::json"}
                {r"extra = case when $1 = 2 and c.extra is not null and excluded.extra is not null
                                     and strpos(excluded.extra::text || c.extra::text, '\u') = 0
                                then (select json_object_agg(coalesce(n.key, o.key), coalesce(n.value, o.value))
                                      from json_each(excluded.extra) n full join json_each(c.extra) o on o.key = n.key)
                                else coalesce(excluded.extra, case when $1 = 2 then c.extra end) end"}
                {"n.extra_differs"}
            }
            // An array of arrays of different lengths is no array: the notes travel as JSON. In which order they came is of no
            // matter.
            "notes" "text": String = |row| serde_json::json!(row.cdr.notes).to_string(); {
                {"array(select json_array_elements_text(n.notes::json))"}
                {"notes = case when $1 = 2 then (select array(select distinct unnest(c.notes || excluded.notes)))
                               else excluded.notes end"}
                {"not (c.notes @> n.notes and c.notes <@ n.notes)"}
            }
            // A number in E.164 belongs to the number it was made of.
            "caller_e164" "text": Option<&str> = |row| row.cdr.fields.caller_e164.as_deref(); {
                {"n.caller_e164"}
                {"caller_e164 = case when $1 = 2 and excluded.caller_id_number is null
                                     then c.caller_e164 else excluded.caller_e164 end"}
                {"c.caller_e164 is distinct from n.caller_e164"}
            }
            "destination_e164" "text": Option<&str> = |row| row.cdr.fields.destination_e164.as_deref(); {
                {"n.destination_e164"}
                {"destination_e164 = case when $1 = 2 and excluded.destination_number is null
                                          then c.destination_e164 else excluded.destination_e164 end"}
                {"c.destination_e164 is distinct from n.destination_e164"}
            }
        }
    };
}
pub(super) use columns;
