//! The group `smp` as a user runs it, shortened, over the C library's own malloc alone: it needs nothing built.

use std::process::Command;

use serde_json::Value;

fn report(options: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terrace-peers"));
    let output = command.args(["smp", "--quick", "--rounds", "1", "--against", "glibc"]).args(options).output();
    let output = output.expect("the benchmark starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("its report is JSON")
}

#[test]
fn every_cell_has_a_figure_of_the_c_library() {
    let report = report(&["--ours", "nowhere/libterrace_malloc.so"]);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 26);
    for row in rows {
        if let Some(why) = row["failed"]["glibc"].as_str() {
            eprintln!("{} was not measured: {why}", row["cell"]);
            assert_eq!(row["unit"], "instructions", "only counting may lack a tool: {row}");
            continue;
        }
        let figure = row["figures"]["glibc"].as_f64().expect("a figure");
        assert!(figure > 0.0, "{row}");
        assert!(row["ratio"].is_null(), "ours is not here: {row}");
    }
    let ours = &report["contestants"][0];
    assert_eq!(ours["name"], "terrace");
    assert!(ours["absent"].as_str().is_some_and(|why| why.contains("nowhere")), "{ours}");
    assert!(report["goals"].as_array().expect("goals").iter().all(|goal| goal["met"].is_null()));
}

#[test]
fn a_library_that_serves_no_malloc_does_not_take_part() {
    let other = std::fs::read_to_string("/proc/self/maps").expect("the mapped libraries");
    let other = other.split_whitespace().find(|path| path.contains("libgcc_s")).expect("std's unwinder");
    let report = report(&["--only", "pair 64", "--ours", other]);
    let why = report["contestants"][0]["absent"].as_str().expect("a reason");
    assert!(why.contains("does not serve malloc"), "{why}");
}

#[test]
fn a_name_that_nobody_has_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terrace-peers"));
    let output = command.args(["smp", "--against", "nobody"]).output().expect("the benchmark starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no contestant is called nobody"));
}
