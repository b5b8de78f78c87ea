use std::collections::BTreeSet;

use expect_test::expect_file;
use serde_json::Value;

use super::*;
use crate::example;

/// Every path in a value, members of an array under one name.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| paths(member, &format!("{at}.{name}"), found))
        }
        Value::Array(members) => members.iter().for_each(|member| paths(member, &format!("{at}[]"), found)),
        Value::Null => drop(found.insert(format!("{at}: null"))),
        Value::Bool(_) => drop(found.insert(format!("{at}: true or false"))),
        Value::Number(_) => drop(found.insert(format!("{at}: number"))),
        Value::String(_) => drop(found.insert(format!("{at}: text"))),
    }
}

#[test]
fn the_schema_is_the_published_one() {
    let value: Value = serde_json::from_str(&example::report().to_json()).expect("JSON");
    let mut found = BTreeSet::new();
    paths(&value, "", &mut found);
    let text = found.into_iter().map(|path| path + "\n").collect::<String>();
    expect_file!["schema.txt"].assert_eq(&text);
}

#[test]
fn what_was_not_measured_is_not_in_the_json() {
    let mut report = example::report();
    for sample in report.subjects.iter_mut().flat_map(|measured| &mut measured.samples) {
        (sample.memory, sample.probe_attempts, sample.stop_ms) = (None, None, None);
    }
    analyse::analyse(&mut report);
    let json = report.to_json();
    for name in
        ["\"memory_bytes\"", "\"process_bytes\"", "\"probe_attempts\"", "\"stop_ms\"", "\"cpu\"", "null"]
    {
        assert!(!json.contains(name), "{name}");
    }
}

#[test]
fn a_report_survives_a_round_trip() {
    let report = example::report();
    assert_eq!(serde_json::from_str::<Report>(&report.to_json()).expect("a report"), report);
}
