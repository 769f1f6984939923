//! The JSON that `cargo lab demo` and `cargo lab bench` write has the shape that scripts rely on.
//!
//! `.ci/run` runs them and names their files in `TERRACE_DEMO_JSON`, `TERRACE_BENCH_JSON`, `TERRACE_FRAMES_JSON` and
//! `TERRACE_SMP_JSON`; without that no file is checked, and the test says so. The checks themselves are tested on good and bad documents always.

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
const STACK: [&str; 5] = ["peak_live_bytes", "peak_resident_bytes", "backing_allocs", "left_bytes", "errors"];
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

/// What is wrong with the rows of a bench group.
fn bench_mistakes(document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows = document.as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        wrong.push("no rows".into());
    }
    for (index, row) in rows.iter().enumerate() {
        let place = format!("[{index}]");
        for key in ["group", "cell", "best_peer"].iter().filter(|key| row[**key].as_str().is_none_or(str::is_empty)) {
            wrong.push(format!("{place}.{key} is no text"));
        }
        numbers(row, &["ours_ns", "ratio"], &place, &mut wrong);
        if !ratio_is_to_the_best_peer(row) {
            wrong.push(format!("{place}.ratio is not ours to the best peer's"));
        }
    }
    wrong
}

/// What is wrong with the rows of the group `frames`: more stands in them.
fn frames_mistakes(document: &Value) -> Vec<String> {
    let mut wrong = bench_mistakes(document);
    for (index, row) in document.as_array().map_or(&[][..], Vec::as_slice).iter().enumerate() {
        numbers(row, &["order", "threads"], &format!("[{index}]"), &mut wrong);
        if row["figures"].as_object().is_none_or(|figures| figures.len() != 5) {
            wrong.push(format!("[{index}].figures are not those of five contestants"));
        }
        for (name, figures) in row["figures"].as_object().into_iter().flatten() {
            numbers(figures, &["median", "mean", "p99", "rounds"], &format!("[{index}].figures.{name}"), &mut wrong);
        }
        let ours = row["figures"]["terrace"]["median"].as_f64();
        if ours.is_none() || ours != row["ours_ns"].as_f64() {
            wrong.push(format!("[{index}].ours_ns is not our median"));
        }
    }
    wrong
}

fn ratio_is_to_the_best_peer(row: &Value) -> bool {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let best = number(&row["peers"][row["best_peer"].as_str().unwrap_or_default()]);
    let is_best = row["peers"].as_object().is_some_and(|peers| peers.values().all(|peer| best <= number(peer)));
    // With a number missing the difference is none, and not below anything.
    is_best && (number(&row["ours_ns"]) / best - number(&row["ratio"])).abs() < 0.001
}

/// What is wrong with the report of the group `smp`.
fn smp_mistakes(document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let empty = Vec::new();
    let list = |key: &str| document[key].as_array().unwrap_or(&empty);
    let present: Vec<&str> = list("contestants")
        .iter()
        .filter(|contestant| contestant["absent"].is_null())
        .filter_map(|contestant| contestant["name"].as_str())
        .collect();
    for one in list("contestants").iter().filter(|one| one["absent"].as_str().is_some_and(str::is_empty)) {
        wrong.push(format!("{} is absent without a reason", one["name"]));
    }
    if present.is_empty() || list("rows").is_empty() {
        wrong.push("nobody takes part, or no rows".into());
    }
    for (index, row) in list("rows").iter().enumerate() {
        for name in present.iter().filter(|name| row["failed"][**name].is_null()) {
            numbers(&row["figures"], &[name], &format!("rows[{index}].figures"), &mut wrong);
        }
        let best = row["figures"][row["best_peer"].as_str().unwrap_or_default()].as_f64().filter(|best| *best > 0.0);
        let ratio = row["figures"]["terrace"].as_f64().zip(best).map(|(ours, best)| ours / best);
        if ratio.is_some_and(|ratio| row["ratio"].as_f64().is_none_or(|said| (said - ratio).abs() > 0.001)) {
            wrong.push(format!("rows[{index}].ratio is not ours to the best peer's"));
        }
    }
    if list("goals").len() < 7 {
        wrong.push("a goal is missing".into());
    }
    wrong
}

/// The document that `.ci/run` names in `variable`, where it does.
fn document(variable: &str) -> Option<Value> {
    let Some(path) = std::env::var_os(variable) else {
        eprintln!("{variable} names no file: the JSON of a real run was not checked (.ci/run does)");
        return None;
    };
    let text = std::fs::read_to_string(&path).expect("the JSON can be read");
    Some(serde_json::from_str(&text).expect("it is JSON"))
}

#[test]
fn the_demo_writes_what_scripts_rely_on() {
    let wrong = document("TERRACE_DEMO_JSON").map_or_else(Vec::new, |document| mistakes(&document));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bench_group_writes_what_scripts_rely_on() {
    let wrong = document("TERRACE_BENCH_JSON").map_or_else(Vec::new, |document| bench_mistakes(&document));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_group_frames_writes_what_scripts_rely_on() {
    let wrong = document("TERRACE_FRAMES_JSON").map_or_else(Vec::new, |document| frames_mistakes(&document));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_group_smp_writes_what_scripts_rely_on() {
    let wrong = document("TERRACE_SMP_JSON").map_or_else(Vec::new, |document| smp_mistakes(&document));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_mistake_in_a_row_of_frames_is_named() {
    let figures = json!({"median": 50.0, "mean": 60.0, "p99": 90.0, "rounds": 1});
    let good = json!([{"group": "frames", "cell": "order 0 bulk 1 thread", "order": 0, "threads": 1, "ours_ns": 50.0,
        "peers": {"a": 100.0}, "best_peer": "a", "ratio": 0.5,
        "figures": {"terrace": figures, "a": figures, "b": figures, "c": figures, "d": figures}}]);
    assert_eq!(frames_mistakes(&good), Vec::<String>::new());
    for (pointer, spoiled) in [
        ("/0/order", json!(null)),
        ("/0/figures/a/p99", json!(-1.0)),
        ("/0/figures/terrace/median", json!(51.0)),
        ("/0/figures", json!({"terrace": figures})),
        ("/0/ratio", json!(0.6)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("the good document has it") = spoiled;
        assert_eq!(frames_mistakes(&bad).len(), 1, "{pointer}");
    }
}

#[test]
fn each_mistake_in_an_smp_report_is_named() {
    let good = json!({
        "contestants": [{"name": "terrace"}, {"name": "glibc"}, {"name": "zig", "absent": "install it"}],
        "rows": [{"cell": "pair", "figures": {"terrace": 3.0, "glibc": 6.0}, "best_peer": "glibc", "ratio": 0.5}],
        "goals": [1, 2, 3, 4, 5, 6, 7],
    });
    assert_eq!(smp_mistakes(&good), Vec::<String>::new());
    for (pointer, spoiled) in [
        ("/contestants/2/absent", json!("")),
        ("/rows", json!([])),
        ("/rows/0/ratio", json!(0.6)),
        ("/rows/0/figures/glibc", json!(-6.0)),
        ("/goals", json!([1])),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("the good document has it") = spoiled;
        assert!(!smp_mistakes(&bad).is_empty(), "{pointer}");
    }
}

fn good() -> Value {
    let fill = |keys: &[&str]| -> Value { keys.iter().map(|key| ((*key).to_owned(), json!(20_000))).collect() };
    let stack = |name: &str| {
        let mut stack = fill(&STACK);
        stack["stack"] = json!(name);
        stack["ns_per_op"] = fill(&NS_PER_OP);
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

#[test]
fn each_mistake_in_a_bench_row_is_named() {
    let row = |name: &str, spoiled: Value| {
        let mut row = json!({"group": "page", "cell": "4 KiB", "ours_ns": 50.0, "peers": {"mmap": 100.0, "other": 120.0},
            "best_peer": "mmap", "ratio": 0.5});
        row[name] = spoiled;
        json!([row])
    };
    assert_eq!(bench_mistakes(&row("cell", json!("4 KiB"))), Vec::<String>::new());
    for (name, spoiled) in
        [("group", json!(7)), ("ratio", json!(0.6)), ("peers", json!({"mmap": 100.0, "other": 90.0}))]
    {
        assert_eq!(bench_mistakes(&row(name, spoiled)).len(), 1, "{name}");
    }
    assert!(!bench_mistakes(&row("best_peer", json!("nobody"))).is_empty());
    assert_eq!(bench_mistakes(&json!([])).len(), 1);
}
