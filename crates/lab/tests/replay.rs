//! Replays from end to end: every stack, threads that free one another's blocks, the figures and the table.

mod support;

use serde_json::Value;
use support::Lab;

const QUICK: [&str; 2] = ["--rounds", "1"];

fn stacks(figures: &Value) -> &Vec<Value> {
    figures["stacks"].as_array().unwrap()
}

/// The promised fields of one stack, each of its type.
fn assert_shape(stack: &Value) {
    assert!(stack["stack"].is_string(), "{stack}");
    for figure in ["mean", "p50", "p99", "p999", "max"] {
        assert!(stack["ns_per_op"][figure].as_f64().is_some_and(|nanos| nanos >= 0.0), "{figure}: {stack}");
    }
    for figure in ["peak_live_bytes", "peak_resident_bytes", "backing_allocs", "left_bytes", "errors", "corrupted"] {
        assert!(stack[figure].is_u64(), "{figure}: {stack}");
    }
}

fn assert_sound(stack: &Value) {
    assert_shape(stack);
    assert_eq!((stack["errors"].as_u64(), stack["corrupted"].as_u64()), (Some(0), Some(0)), "{stack}");
}

#[test]
fn info_prints_what_the_trace_adds_up_to() {
    let lab = Lab::new();
    let summary = lab.trace("t.trace", 3, 50);
    let (said, figures) = lab.figures(&["info", "t.trace"]);
    let wanted = [
        ("events", summary.events),
        ("allocs", summary.allocs),
        ("frees", summary.frees),
        ("reallocs", summary.reallocs),
        ("threads", summary.threads.into()),
        ("peak_live_bytes", summary.peak_live_bytes),
        ("peak_live_blocks", summary.peak_live_blocks),
        ("total_bytes", summary.total_bytes),
        ("leaked_blocks", summary.leaked_blocks),
    ];
    for (name, figure) in wanted {
        assert_eq!(figures[name].as_u64(), Some(figure), "{name}");
    }
    assert!(said.out.contains("peak live bytes"), "{}", said.out);
    let piped = lab.run(&["info", "t.trace", "--json", "-"]);
    assert_eq!(serde_json::from_str::<Value>(&piped.out).unwrap(), figures, "nothing but the figures");
}

/// What many threads may share.
const SHARED: &[&str] = &[
    "page",
    "system",
    "smp(page)",
    "debug(smp(page))",
    "sync_arena(page)",
    "smp(system)",
    "debug(page)",
    "smp(debug(page))",
    "sync_arena(smp(page))",
    "region(64MiB, hybrid)",
    "smp(region(64MiB, hybrid))",
    "smp(region(64MiB, numa(hybrid)))",
    "smp(region(64MiB, numa(hybrid, weighted(3, 1))))",
    "region(64MiB, zones(hybrid))",
    "debug(region(64MiB, buddy))",
    "sync_arena(region(64MiB, classic))",
];

#[test]
fn many_threads_replay_over_every_stack_without_an_error() {
    let lab = Lab::new();
    let summary = lab.trace("t.trace", 5, 300);
    // One of each word on its own, then those that are called through a table.
    let direct = [
        "page",
        "system",
        "smp(page)",
        "debug(smp(page))",
        "sync_arena(page)",
        "arena(page)",
        "arena(system)",
        "fixed(64MiB)",
        "stack(page)",
    ];
    let dynamic = [
        "smp(system)",
        "debug(page)",
        "smp(debug(page))",
        "debug(arena(page))",
        "sync_arena(smp(page))",
        "arena(arena(page))",
        "arena(fixed(64MiB))",
        "smp(fixed(64MiB))",
        "buffer_first(64KiB, smp(page))",
        "pool(16KiB, page)",
        "region(64MiB, hybrid)",
        "smp(region(64MiB, hybrid))",
        "smp(region(64MiB, numa(hybrid)))",
        "smp(region(64MiB, numa(hybrid, weighted(3, 1))))",
        "region(64MiB, zones(hybrid))",
        "arena(region(64MiB, bitmap))",
        "debug(region(64MiB, buddy))",
        "sync_arena(region(64MiB, classic))",
    ];
    let over = [&direct[..], &dynamic].concat();
    let mut arguments = vec!["replay", "t.trace"];
    arguments.extend(over.iter().flat_map(|stack| ["--over", stack]));
    arguments.extend(QUICK);
    let (_, figures) = lab.figures(&arguments);
    assert_eq!(figures["trace"]["peak_live_bytes"].as_u64(), Some(summary.peak_live_bytes));
    assert_eq!(stacks(&figures).len(), over.len());
    for (stack, &name) in stacks(&figures).iter().zip(&over) {
        assert_sound(stack);
        assert_eq!(stack["stack"], name, "in the order in which they were named");
        assert_eq!(stack["peak_live_bytes"].as_u64(), Some(summary.peak_live_bytes));
        assert_eq!(stack["one_thread"].as_bool(), Some(!SHARED.contains(&name)), "{stack}");
        assert_eq!(stack["dynamic"].as_bool(), Some(dynamic.contains(&name)), "{stack}");
    }
    let of = |name: &str| stacks(&figures).iter().find(|stack| stack["stack"] == name).unwrap();
    assert_eq!(of("page")["left_bytes"].as_u64(), Some(0), "pages go back one by one");
    assert!(of("page")["backing_allocs"].as_u64() > of("arena(page)")["backing_allocs"].as_u64());
    assert!(of("arena(page)")["left_bytes"].as_u64() > Some(0), "an arena keeps them to its end");
    assert_eq!(of("fixed(64MiB)")["left_bytes"].as_u64(), Some(64 << 20));
    assert!(of("page")["backing_allocs"].as_u64() > of("smp(page)")["backing_allocs"].as_u64());
    assert!(figures["verdict"].as_str().unwrap().contains("is best on this trace"));
}

#[test]
fn combinators_replay_without_an_error() {
    let lab = Lab::new();
    lab.trace("t.trace", 4, 300);
    let shared = [
        "limit(64MiB, page)",
        "lock(arena(page))",
        "stats(smp(page))",
        "affix(smp(page))",
        "zeroed(smp(page))",
        "pressure(16KiB, smp(page))",
        "fallback(limit(64KiB, lock(arena(page))), smp(page))",
        "segregate(256, lock(pool(256, page)), smp(page))",
        "segregate(256, bucketize(128, lock(pool(128, page)), smp(page)), smp(page))",
    ];
    let local = [
        "limit(64MiB, arena(page))",
        "free_list(1KiB, smp(page))",
        "segregate(256, bucketize(64, pool(64, page), pool(128, page), pool(192, page), pool(256, page)), arena(page))",
        "fallback(free_list(64, affix(zeroed(pressure(64, fixed(4KiB))))), page)",
        "fallback(segregate(64, pool(64, page), fixed(16KiB)), lock(stack(page)))",
        "segregate(256, pool(256, page), fallback(buffer_first(16KiB, arena(page)), system))",
    ];
    let over = [&shared[..], &local].concat();
    let mut arguments = vec!["replay", "t.trace"];
    arguments.extend(over.iter().flat_map(|stack| ["--over", stack]));
    arguments.extend(QUICK);
    let (_, figures) = lab.figures(&arguments);
    assert_eq!(stacks(&figures).len(), over.len());
    for (stack, &name) in stacks(&figures).iter().zip(&over) {
        assert_sound(stack);
        assert_eq!(stack["stack"], name);
        assert_eq!(stack["one_thread"].as_bool(), Some(!shared.contains(&name)), "{stack}");
        assert!(stack["backing_allocs"].as_u64() > Some(0), "the ground counts: {stack}");
    }
}

#[test]
fn every_touch_and_both_ways_of_threads_are_sound() {
    let lab = Lab::new();
    lab.trace("t.trace", 3, 100);
    for touch in ["page", "fill", "none"] {
        for threads in ["keep", "one"] {
            let arguments = ["replay", "t.trace", "--over", "system", "--over", "arena(page)", "--touch", touch];
            let (_, figures) = lab.figures(&[&arguments[..], &["--threads", threads], &QUICK].concat());
            stacks(&figures).iter().for_each(assert_sound);
            assert_eq!(stacks(&figures)[0]["one_thread"].as_bool(), Some(threads == "one"));
        }
    }
}

#[test]
fn a_stack_that_is_too_small_is_told_and_not_ranked() {
    let lab = Lab::new();
    lab.trace("t.trace", 1, 300);
    let over = ["--over", "fixed(1KiB)", "--over", "page"];
    let (said, figures) = lab.figures(&[&["replay", "t.trace"], &over[..], &QUICK].concat());
    let small = &stacks(&figures)[0];
    assert_shape(small);
    assert!(small["errors"].as_u64() > Some(0) && small["corrupted"].as_u64() == Some(0), "{small}");
    let verdict = figures["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("page serves this trace") && verdict.contains("not able to serve it: fixed(1KiB)"),
        "{verdict}"
    );
    assert!(said.out.replace('\n', " ").contains(verdict), "{}", said.out);
    let (_, figures) = lab
        .figures(&[&["replay", "t.trace", "--over", "fixed(17179869183GiB)", "--over", "page"], &QUICK[..]].concat());
    let failure = stacks(&figures)[0]["failure"].as_str().unwrap();
    assert!(failure.contains("more memory than this machine has"), "{failure}");
}

#[test]
fn a_pool_whose_items_are_too_short_says_so() {
    let lab = Lab::new();
    lab.trace("t.trace", 1, 300);
    let over = ["--over", "pool(64, page)", "--over", "pool(64KiB, page)"];
    let (_, figures) = lab.figures(&[&["replay", "t.trace"], &over[..], &QUICK].concat());
    let failure = stacks(&figures)[0]["failure"].as_str().unwrap();
    assert!(failure.contains("its items have 64 bytes, and the trace asks for up to 8"), "{failure}");
    assert_sound(&stacks(&figures)[1]);
}

#[test]
fn compare_answers_in_one_sentence_and_80_columns() {
    let lab = Lab::new();
    let summary = lab.trace("t.trace", 2, 200);
    let (said, figures) = lab.figures(&[&["compare", "t.trace"], &QUICK[..]].concat());
    let names: Vec<&str> = stacks(&figures).iter().map(|stack| stack["stack"].as_str().unwrap()).collect();
    for wanted in ["system", "smp(page)", "page", "arena(page)", "arena(system)"] {
        assert!(names.contains(&wanted), "{names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("fixed(")), "{names:?}");
    assert_eq!(names.contains(&"mimalloc"), cfg!(feature = "mimalloc"));
    stacks(&figures).iter().for_each(assert_sound);
    assert_eq!(figures["trace"]["events"].as_u64(), Some(summary.events));
    let verdict = figures["verdict"].as_str().unwrap();
    assert!(verdict.ends_with('.') && verdict.starts_with(names[0]), "the best is the first row: {verdict}");
    assert!(said.out.replace('\n', " ").starts_with(verdict), "the sentence comes first: {}", said.out);
    for line in said.out.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    assert!(!said.out.contains('\x1b') && !said.err.contains('\x1b'), "no colours and no bars in a pipe");
}

#[test]
fn text_traces_are_imported_on_the_way() {
    let lab = Lab::new();
    std::fs::write(lab.path("wee.trace"), "Alloc(64),\nAlloc(100),\nFree(0),\nAlloc(0),\n").unwrap();
    std::fs::write(lab.path("replay.txt"), "7: malloc 0x10 40\n8: realloc 0x20 0x10 90\n8: free 0x20\n").unwrap();
    let said = lab.run(&["import", "wee.trace", "-o", "ours.trace"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let (_, direct) = lab.figures(&["info", "wee.trace"]);
    let (_, imported) = lab.figures(&["info", "ours.trace"]);
    assert_eq!(direct, imported);
    assert_eq!((direct["allocs"].as_u64(), direct["peak_live_bytes"].as_u64()), (Some(3), Some(164)));
    for file in ["wee.trace", "replay.txt"] {
        let (_, figures) = lab.figures(&[&["replay", file, "--over", "arena(page)"], &QUICK[..]].concat());
        assert_sound(&stacks(&figures)[0]);
    }
}

#[test]
fn a_trace_without_a_call_has_nothing_to_replay() {
    let lab = Lab::new();
    lab.trace("t.trace", 2, 0);
    let said = lab.run(&["compare", "t.trace"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("t.trace holds no call to replay"), "{}", said.err);
}

#[test]
fn the_demo_records_a_program_and_says_what_serves_it_best() {
    let lab = Lab::new();
    let Some(cargo) = std::env::var_os("CARGO") else {
        eprintln!("passed over: CARGO is not set, so there is no program to record");
        return;
    };
    // Outside a workspace, so that the demo falls back to what works there, which is also quicker.
    let arguments = ["demo", "--touch", "none", "--json", "demo.json", "--keep", "demo.trace", "--rounds", "1"];
    let said = support::said(lab.command(&arguments).env("CARGO", cargo).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(lab.path("demo.json")).unwrap()).unwrap();
    assert!(figures["trace"]["events"].as_u64() >= Some(10_000), "{}", figures["trace"]);
    assert_eq!(support::summary(&lab.path("demo.trace")).events, figures["trace"]["events"].as_u64().unwrap());
    stacks(&figures).iter().for_each(assert_shape);
    assert!(said.out.contains("recorded `cargo") && said.out.contains("is best on this trace"), "{}", said.out);
    let over = ["smp(page)", "smp(system)", "sync_arena(page)", "stack(page)", "buffer_first(1MiB, smp(page))"];
    let mut arguments = vec!["replay", "demo.trace"];
    arguments.extend(over.iter().flat_map(|stack| ["--over", stack]));
    arguments.extend(QUICK);
    let (_, figures) = lab.figures(&arguments);
    assert_eq!(stacks(&figures).len(), over.len());
    stacks(&figures).iter().for_each(assert_sound);
}

#[test]
fn the_longest_shared_trace_replays_without_an_error() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/traces/aosp/systemui-20k.txt");
    if !std::path::Path::new(trace).is_file() {
        eprintln!("passed over: {trace} is not there");
        return;
    }
    let lab = Lab::new();
    let over = ["--over", "page", "--over", "system", "--over", "arena(page)"];
    let (_, figures) = lab.figures(&[&["replay", trace], &over[..], &QUICK].concat());
    assert_eq!(figures["trace"]["peak_live_bytes"].as_u64(), Some(807_919));
    for stack in stacks(&figures) {
        assert_sound(stack);
        assert_eq!(stack["peak_live_bytes"].as_u64(), Some(807_919), "{stack}");
    }
}
