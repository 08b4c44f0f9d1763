//! Statements that take rows as one array for each column. A column is said once in a list, so that its name, its parameter,
//! its type and its value cannot part ways.
//!
//! `query!` must see the whole statement while it is compiled (Postgres checks each name and type), and SQL numbers its
//! parameters: [`numbered`] counts, and a macro beside each statement lays it out.

/// Gives each column of a list the number of its parameter, and hands all of them to the macro `$layout`. A list is made of
/// - `_;` a parameter that the statement has for itself; these come first;
/// - `"column" "type": Rust type = |row| value; { … }`: a column; what is in braces is for the layout;
/// - `name: Rust type = "column";`: a field. Its type says how it is read and kept; `called "column"` if it is not its key.
///
/// The layout is handed `{number "type" "column" (Rust type) (|row| value) …}` for a column, and then
/// `[number "type" "column" (Rust type) (|fields| value)]` for a field.
macro_rules! numbered {
    ($layout:ident: $($list:tt)*) => {
        $crate::db::base::columns::numbered! {
            @ $layout {} {
                "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8" "$9" "$10" "$11" "$12" "$13" "$14" "$15" "$16" "$17" "$18" "$19" "$20"
                "$21" "$22" "$23" "$24" "$25" "$26" "$27" "$28" "$29" "$30" "$31" "$32" "$33" "$34" "$35" "$36" "$37" "$38"
                "$39" "$40" "$41" "$42" "$43" "$44" "$45" "$46" "$47" "$48" "$49" "$50" "$51" "$52" "$53" "$54" "$55" "$56"
                "$57" "$58" "$59" "$60" "$61" "$62" "$63" "$64" "$65" "$66" "$67" "$68" "$69" "$70" "$71" "$72" "$73" "$74"
                "$75" "$76" "$77" "$78" "$79" "$80" "$81" "$82" "$83" "$84" "$85" "$86" "$87" "$88" "$89" "$90" "$91" "$92"
            }
            $($list)*
        }
    };
    (@ $layout:ident {$($done:tt)*} {$($left:tt)*}) => { $layout! { $($done)* } };
    (@ $layout:ident $done:tt {$own:tt $($left:tt)*} _; $($rest:tt)*) => {
        $crate::db::base::columns::numbered! { @ $layout $done {$($left)*} $($rest)* }
    };
    (@ $layout:ident {$($done:tt)*} {$number:tt $($left:tt)*}
     $column:literal $type:literal: $rust:ty = $read:expr; {$($more:tt)*} $($rest:tt)*) => {
        $crate::db::base::columns::numbered! {
            @ $layout {$($done)* {$number $type $column ($rust) ($read) $($more)*}} {$($left)*} $($rest)*
        }
    };
    (@ $layout:ident $done:tt $left:tt
     $(#[$doc:meta])* $field:ident: $rust:tt = $key:tt called $column:tt; $($rest:tt)*) => {
        $crate::db::base::columns::numbered! { @ $layout $done $left $field: $rust = $column; $($rest)* }
    };
    (@ $layout:ident {$($done:tt)*} {$number:tt $($left:tt)*}
     $(#[$doc:meta])* $field:ident: String = $column:tt; $($rest:tt)*) => {
        $crate::db::base::columns::numbered! {
            @ $layout {$($done)* [$number "text" $column (Option<&str>) (|fields| fields.$field.as_deref())]}
            {$($left)*} $($rest)*
        }
    };
    (@ $layout:ident {$($done:tt)*} {$number:tt $($left:tt)*}
     $(#[$doc:meta])* $field:ident: i32 = $column:tt; $($rest:tt)*) => {
        $crate::db::base::columns::numbered! {
            @ $layout {$($done)* [$number "int4" $column (Option<i32>) (|fields| fields.$field)]} {$($left)*} $($rest)*
        }
    };
    (@ $layout:ident {$($done:tt)*} {$number:tt $($left:tt)*}
     $(#[$doc:meta])* $field:ident: i64 = $column:tt; $($rest:tt)*) => {
        $crate::db::base::columns::numbered! {
            @ $layout {$($done)* [$number "int8" $column (Option<i64>) (|fields| fields.$field)]} {$($left)*} $($rest)*
        }
    };
    (@ $layout:ident {$($done:tt)*} {$number:tt $($left:tt)*}
     $(#[$doc:meta])* $field:ident: Numeric = $column:tt; $($rest:tt)*) => {
        // As text: no type of Rust's that sqlx binds holds all the digits that `numeric` does.
        $crate::db::base::columns::numbered! {
            @ $layout {$($done)* [$number "text[]::numeric" $column (Option<&str>)
                (|fields| fields.$field.as_ref().map(|number| number.as_str()))]}
            {$($left)*} $($rest)*
        }
    };
    (@ $layout:ident {$($done:tt)*} {$number:tt $($left:tt)*}
     $(#[$doc:meta])* $field:ident: DateTime<Utc> = $column:tt; $($rest:tt)*) => {
        $crate::db::base::columns::numbered! {
            @ $layout {$($done)* [$number "timestamptz" $column (Option<DateTime<Utc>>) (|fields| fields.$field)]}
            {$($left)*} $($rest)*
        }
    };
}
pub(in crate::db) use numbered;

/// The column of some rows that `read` reads.
pub(in crate::db) fn column<R, T>(rows: impl Iterator<Item = R>, read: impl Fn(R) -> T) -> Vec<T> {
    rows.map(read).collect()
}
