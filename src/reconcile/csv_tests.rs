//! Tests of `csv.rs`.

use proptest::prelude::*;

use super::*;
fn open(text: &[u8]) -> Result<Option<Export<&[u8]>>, Wrong> {
    Export::open(text, Spelling::default(), Closeness::default(), "2026-11-27T00:00:00Z".parse().unwrap())
}

fn read(text: &[u8]) -> Vec<TheirCall> {
    open(text).unwrap().unwrap().read(usize::MAX).unwrap()
}

fn facts(text: &[u8]) -> (Vec<i64>, FileFacts) {
    let mut export = open(text).unwrap().unwrap();
    let lines = export.read(usize::MAX).unwrap().iter().map(|call| call.line).collect();
    (lines, export.facts().unwrap())
}

#[test]
fn columns_are_found_by_name_however_it_is_spelt() {
    for text in [
        "\u{feff}UUID,Total Cost,Trunk Name,Start Time\na1,0.45,main,2026-03-25T10:00:00Z\n",
        "start_time;trunk;total_cost;Call-ID\r\n2026-03-25 10:00:00+00;;0.45;a1\r\n",
        "\"uuid\"\t\" TOTAL_COST \"\tstart_time\n\"a1\"\t\"0.45\"\t\"2026-03-25T15:30:00+05:30\"",
    ] {
        let calls = read(text.as_bytes());
        assert_eq!(calls.len(), 1, "{text}");
        assert_eq!((calls[0].line, calls[0].call_id.as_deref()), (2, Some("a1")), "{text}");
        assert_eq!(calls[0].total_cost.as_ref().unwrap().to_string(), "0.45");
        let at = "2026-03-25T10:00:00Z".parse().unwrap();
        assert_eq!(calls[0].called_at, Some(Moment::Instant(at)), "{text}");
        assert_eq!(calls[0].unreadable, None);
    }
}

#[test]
fn a_row_that_cannot_be_read_keeps_its_line() {
    let calls =
        read(b"uuid,cost\na1,0.45\na2\n\n,1\na3,\xff\nb c,abc\na4,NULL\na5,1,\na6,\"1\n2\",3\na7,\"1\n2\"\n");
    let said: Vec<_> = calls.iter().map(|call| (call.line, call.unreadable.as_deref())).collect();
    assert_eq!(
        said,
        [
            (2, None),
            (3, Some("1 values under 2 columns")),
            (5, Some("there is no uuid")),
            (6, Some("cost: not a number: \"ÿ\"")),
            (
                7,
                Some(
                    "uuid: an id is made of letters, digits and . _ : @ + - only; cost: not a number: \"abc\""
                )
            ),
            (8, None),
            (9, None),
            (10, Some("3 values under 2 columns; a quotation mark keeps the lines 10 to 11 together")),
            (12, Some("cost: not a number: \"1 2\"; a quotation mark keeps the lines 12 to 13 together"))
        ]
    );
    assert_eq!(calls[5].cost, None);
}

#[test]
fn without_a_start_the_end_counts() {
    let calls = read(
        b"uuid,end_time,start_time\na,2026-03-25 10:00:00,\nb,2026-03-25 10:00:00,0001-01-01T00:00:00Z\n",
    );
    assert!(calls.iter().all(|call| call.called_at.is_some() && call.unreadable.is_none()), "{calls:?}");
}

#[test]
fn what_is_no_call_is_counted_and_keeps_no_line_from_its_number() {
    for end in ["\n", "\r\n", "\r", "\r\r\n"] {
        let text = [
            "Calls of November",
            "",
            "uuid,cost",
            "a,0.45",
            "",
            ",",
            "b,0.45",
            "uuid,cost",
            "c,0.45",
            ",",
            "Total,1.35",
            "",
            "",
        ]
        .join(end);
        let (lines, facts) = facts(text.as_bytes());
        assert_eq!(lines, [4, 7, 9], "{end:?}");
        assert_eq!((facts.title_lines, facts.blank_rows, facts.repeated_headers), (1, 5, 1), "{end:?}");
        let total = &facts.totals.shown[0];
        assert_eq!((facts.totals.rows, total.line, total.right, total.wrong.len()), (1, 11, 1, 0));
    }
    let (lines, facts) =
        facts(b"uuid,cost,note\na,0.45,Total\n,0.45,Total\n,0.45,\nGrand total,1.3\nGrand total,0.5,\n");
    assert_eq!(
        lines,
        [2, 3, 4],
        "a call, and two rows without an id that do not begin with a word for a sum"
    );
    assert_eq!(facts.totals.shown.iter().map(|row| row.wrong.len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_column_beside_the_one_that_is_read_is_held_against_it() {
    let beside = |text: &str| facts(text.as_bytes()).1.not_read;
    let same = beside(
        "uuid,total_cost,Amount (INR),amount_paise,duration,duration_ms\na,0.45,₹0.450,45,47,47000\nb,,0,,0,\n",
    );
    assert_eq!(same.len(), 3, "{same:?}");
    assert!(same.iter().all(|one| one.checked && one.differing == 0), "{same:?}");
    for (text, first) in [
        ("uuid,total_cost,Amount\na,0.45,0.45\nb,0.45,0.54\nc,0.45,\n", 3),
        ("uuid,total_cost,Amount\na,,0.45\nb,1,x\n", 2),
        ("uuid,billsec,Billed Duration (ms)\na,42,42000\nb,42,42\nc,42,1\n", 3),
        ("uuid,currency,currency_code\na,INR,Rs\nb,INR,USD\nc,INR,EUR\n", 3),
    ] {
        let said = beside(text);
        assert_eq!((said[0].differing, said[0].first), (2, Some(first)), "{text}: {said:?}");
    }
    let unit = beside("uuid,duration,duration_min\na,47,1\n");
    assert!(!unit[0].checked && unit[0].read == "duration");
}

#[test]
fn a_smaller_unit_is_read_in_ours() {
    let call = &read(b"uuid,total_cost_paise,cost (cents),duration_ms\na,45.5,-7,47000\n")[0];
    let said = [&call.total_cost, &call.cost, &call.duration].map(|said| said.as_ref().unwrap().to_string());
    assert_eq!(said, ["0.455", "-0.07", "47"]);
    assert_eq!((call.currency.as_deref(), call.unreadable.as_deref()), (Some("INR"), None));
}

#[test]
fn a_number_that_may_be_a_thousand_times_as_much_is_never_guessed() {
    let facts = |text: &[u8]| {
        let mut export = open(text).unwrap().unwrap();
        export.read(usize::MAX).unwrap();
        export.facts()
    };
    for text in
        [&b"uuid,cost\na,\"1,234\"\n"[..], b"uuid;billsec\na;12\nb;12,345\n", b"uuid;cost\na;0,45\nb;1,234\n"]
    {
        assert!(matches!(facts(text), Err(Wrong::AmbiguousNumber(_))));
    }
    let wrong = facts(b"uuid;cost;x\na;5;\nb;1,234;\n").unwrap_err().to_string();
    assert!(wrong.contains("line 3, column cost: 1,234") && wrong.contains("--decimal ,"), "{wrong}");
    assert_eq!(facts(b"uuid;cost\na;0.5\nb;1,234\n").unwrap().unclear_number, None);
    assert_eq!(facts(b"uuid;cost\na;5\nb;1.234\n").unwrap().unclear_number.unwrap().line, 3);
    assert_eq!(read(b"uuid;cost\na;0,034\n")[0].cost, None);
}

#[test]
fn a_quotation_mark_that_is_never_closed_hides_no_row() {
    for (text, line) in [
        ("uuid,cost,note\na1,1,\"see\nb1,2,\nc1,3,\n", 2),
        ("uuid,cost,note\na1,1,\"see\nb1,2,\nc1,3,\"\nd1,4,\n", 2),
        ("uuid,cost,note\na1,1,\n\"b1,2,\nc1,3,\n", 3),
    ] {
        let calls = read(text.as_bytes());
        let said = calls.iter().find(|call| call.line == line).unwrap().unreadable.as_deref().unwrap();
        assert!(said.contains("quotation mark"), "{text}: {said}");
        let lines: std::collections::BTreeSet<i64> = calls.iter().map(|call| call.line).collect();
        assert_eq!(lines.len(), calls.len(), "{text}");
    }
    // Two in a column that is not the last one, around rows: the second stands amid a cell.
    let text = "uuid,start_time,caller_id_name,billsec\na,2026-03-25T10:00:00Z,\"Joe,42\nzzz,2026-03-25T10:05:00Z,\"Al\",42\nb,2026-03-25T10:10:00Z,n,42\n";
    let said: Vec<_> =
        read(text.as_bytes()).into_iter().map(|call| (call.line, call.unreadable.is_some())).collect();
    assert_eq!(said, [(2, true), (4, false)]);
    // A cell may have lines.
    for note in ["see\nline, two", "Dear all,\nplease, when you can, call"] {
        let text = format!("uuid,start_time,note\na,2026-03-25T10:00:00Z,\"{note}\"\n");
        assert_eq!(read(text.as_bytes())[0].unreadable, None, "{note}");
    }
}

#[test]
fn a_file_that_is_no_export_says_what_it_has() {
    let wrong = |text: &[u8]| open(text).unwrap_err().to_string();
    assert!(wrong(b"id,cost\n1,2\n").contains("id, cost"));
    assert!(wrong(b"uuid,cost,Cost\n").contains("cost"));
    assert!(!wrong(b"id,\x1b[31mcost\n1,2\n").contains('\u{1b}'));
    assert!(wrong(b"PK\x03\x04\x14\0\0\0").contains("save it as CSV"));
    for nothing in [&b""[..], b"\n\n", b"\xef\xbb\xbf", b"  \n", b"sep=;\n", b",,,\n"] {
        assert!(open(nothing).unwrap().is_none(), "{nothing:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_rows_or_an_error(any in any::<Vec<u8>>(), with_header in any::<bool>()) {
        let bytes = if with_header { [b"uuid,cost,start_time\n", &any[..]].concat() } else { any };
        if let Ok(Some(mut export)) = open(&bytes[..]) {
            while export.read(3).is_ok_and(|calls| !calls.is_empty()) {}
        }
    }

    #[test]
    fn every_line_of_text_is_a_row_and_keeps_its_number(
        lines in prop::collection::vec("([a-z0-9,.-]{1,20})?", 0..20),
        end in prop::sample::select(vec!["\n", "\r\n", "\r", "\r\r\n"]),
    ) {
        let text = format!("uuid,cost{end}\"a\n1\",2{end}{}", lines.join(end));
        let found: Vec<_> = read(text.as_bytes()).iter().map(|call| call.line).collect();
        let full = lines.iter().zip(4..).filter(|(text, _)| !text.trim_matches(',').is_empty()).map(|(_, line)| line);
        prop_assert_eq!(found, [2].into_iter().chain(full).collect::<Vec<i64>>());
    }
}
