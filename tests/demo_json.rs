//! The JSON that `cargo lab demo --json FILE` writes has the shape that scripts rely on.
//!
//! `.ci/run` runs the demo and names its file in `TERRACE_DEMO_JSON`; without that the file is not
//! checked, and the test says so. The checks themselves are tested on good and bad documents always.

use serde_json::{Value, json};

const TRACE: [&str; 9] = [
    "events",
    "allocs",
    "frees",
    "reallocs",
    "threads",
    "peak_live_bytes",
    "peak_live_blocks",
    "total_bytes",
    "leaked_blocks",
];
const STACK: [&str; 4] = ["peak_live_bytes", "peak_resident_bytes", "left_bytes", "errors"];
const NS_PER_OP: [&str; 5] = ["mean", "p50", "p99", "p999", "max"];

/// A demo records a real program: fewer events than this are none.
const EVENTS: f64 = 10_000.0;

/// What is wrong with a document.
fn mistakes(document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    numbers(&document["trace"], &TRACE, "trace", &mut wrong);
    if document["trace"]["events"].as_f64().is_some_and(|events| events < EVENTS) {
        wrong.push(format!("trace.events is below {EVENTS}"));
    }
    let stacks = document["stacks"].as_array().map_or(&[][..], Vec::as_slice);
    if stacks.len() < 2 {
        wrong.push("stacks has fewer than two rows: nothing is compared".into());
    }
    for (index, stack) in stacks.iter().enumerate() {
        let place = format!("stacks[{index}]");
        if stack["stack"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{place}.stack is no text"));
        }
        numbers(stack, &STACK, &place, &mut wrong);
        // `null`, not left out, for what others' allocators ask below: that is not ours to count.
        let foreign = matches!(stack["stack"].as_str(), Some("system" | "mimalloc"));
        if !(foreign && stack.get("backing_allocs").is_some_and(Value::is_null)) {
            numbers(stack, &["backing_allocs"], &place, &mut wrong);
        }
        numbers(&stack["ns_per_op"], &NS_PER_OP, &format!("{place}.ns_per_op"), &mut wrong);
    }
    let verdict = document["verdict"].as_str().unwrap_or_default().trim();
    if !verdict.ends_with('.') || verdict.contains('\n') {
        wrong.push("verdict is no sentence".into());
    }
    wrong
}

fn numbers(object: &Value, keys: &[&str], place: &str, wrong: &mut Vec<String>) {
    for key in keys.iter().filter(|key| object[**key].as_f64().is_none_or(|number| number < 0.0)) {
        wrong.push(format!("{place}.{key} is no number from 0"));
    }
}

#[test]
fn the_demo_writes_what_scripts_rely_on() {
    let Some(path) = std::env::var_os("TERRACE_DEMO_JSON") else {
        eprintln!("TERRACE_DEMO_JSON names no file: the demo's JSON was not checked (.ci/run does)");
        return;
    };
    let text = std::fs::read_to_string(&path).expect("the demo's JSON can be read");
    let document: Value = serde_json::from_str(&text).expect("the demo wrote JSON");
    let wrong = mistakes(&document);
    assert!(wrong.is_empty(), "{}\n{}", path.display(), wrong.join("\n"));
}

fn good() -> Value {
    let fill = |keys: &[&str]| -> Value { keys.iter().map(|key| ((*key).to_owned(), json!(20_000))).collect() };
    let stack = |name: &str| {
        let mut stack = fill(&STACK);
        stack["stack"] = json!(name);
        stack["ns_per_op"] = fill(&NS_PER_OP);
        stack["backing_allocs"] = if name == "system" { json!(null) } else { json!(31) };
        stack
    };
    json!({"trace": fill(&TRACE), "stacks": [stack("arena(page)"), stack("system")], "verdict": "Take arena(page)."})
}

#[test]
fn a_good_document_has_no_mistake() {
    assert_eq!(mistakes(&good()), Vec::<String>::new());
}

#[test]
fn each_missing_part_is_named() {
    for (pointer, spoiled) in [
        ("/trace/leaked_blocks", json!(null)),
        ("/trace/events", json!(9_999)),
        ("/stacks/0/stack", json!("")),
        ("/stacks/0/errors", json!("none")),
        ("/stacks/0/ns_per_op/p999", json!(-1)),
        ("/stacks/0/backing_allocs", json!(null)),
        ("/stacks", json!([good()["stacks"][0]])),
        ("/verdict", json!("fast")),
    ] {
        let mut bad = good();
        *bad.pointer_mut(pointer).expect("the good document has it") = spoiled;
        assert_eq!(mistakes(&bad).len(), 1, "{pointer}");
    }
}
