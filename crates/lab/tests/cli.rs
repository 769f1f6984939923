//! The command line as a user meets it: help that teaches, errors that say what to do, exit codes.

mod support;

use std::{fs, io::Read, os::unix::fs::PermissionsExt, process::Stdio};

use support::{Lab, said};

const WORDS: [&str; 8] = ["demo", "record", "import", "info", "replay", "compare", "bench", "frames"];

#[test]
fn every_command_explains_itself_with_an_example() {
    let lab = Lab::new();
    let help = lab.run(&["--help"]);
    assert_eq!(help.code, 0);
    for word in WORDS {
        assert!(help.out.contains(word), "{word} is missing in {}", help.out);
        let own = lab.run(&[word, "--help"]);
        assert_eq!((own.code, own.err.as_str()), (0, ""));
        assert!(own.out.contains("Examples:\n  cargo lab ") && own.out.contains("--json <FILE>"), "{}", own.out);
        assert!(own.out.lines().nth(2).is_some_and(|line| line.len() > 40), "a paragraph: {}", own.out);
    }
    assert!(!help.out.contains("replay-child"), "the lab's own word is hidden");
    let words = lab.run(&["replay", "--help"]).out;
    for word in [
        "limit(SIZE, STACK)",
        "free_list(SIZE, STACK)",
        "lock(STACK)",
        "stats(STACK)",
        "bucketize(SIZE, STACK, …)",
        "zeroed(STACK)",
        "pressure(SIZE, STACK)",
        "affix(STACK)",
        "fallback(STACK, STACK)",
        "segregate(SIZE, STACK, STACK)",
        "smp(STACK)",
        "debug(STACK)",
        "arena(STACK)",
        "buffer_first(SIZE, STACK)",
        "pool(SIZE, STACK)",
        "stack(STACK)",
        "region(SIZE, FRAMES)",
    ] {
        assert!(words.contains(word), "{word} is missing in {words}");
    }
}

/// Arguments, the exit code, and what stderr must say.
fn assert_refused(lab: &Lab, arguments: &[&str], code: i32, wanted: &[&str]) {
    let said = lab.run(arguments);
    assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
    assert!(said.err.starts_with("error: ") && !said.err.contains("panicked"), "{arguments:?}: {}", said.err);
    for wanted in wanted {
        assert!(said.err.contains(wanted), "{arguments:?} should say {wanted:?}: {}", said.err);
    }
    assert_eq!(said.out, "", "{arguments:?}");
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what_is_right() {
    let lab = Lab::new();
    lab.trace("t.trace", 1, 3);
    assert_refused(&lab, &["replya"], 2, &["replay"]);
    assert_refused(&lab, &["info"], 2, &["<TRACE>", "--help"]);
    assert_refused(&lab, &["replay", "t.trace"], 2, &["--over"]);
    assert_refused(&lab, &["replay", "t.trace", "--over", "page", "--rounds", "0"], 2, &["--rounds"]);
    assert_refused(
        &lab,
        &["replay", "t.trace", "--over", "arena(pgae)"],
        2,
        &["\n        ^^^^", "did you mean page?", "fixed(SIZE)"],
    );
    assert_refused(&lab, &["replay", "t.trace", "--over", "fixed(0)"], 2, &["0 bytes", "for instance fixed(64KiB)"]);
    let frames = ["replay", "t.trace", "--over", "smp(region(1GiB, hybird))"];
    assert_refused(&lab, &frames, 2, &["\n                   ^^^^^^", "did you mean hybrid?"]);
    let small = ["replay", "t.trace", "--over", "smp(fixed(64KiB))"];
    assert_refused(&lab, &small, 2, &["pieces of 4MiB", "make it 8MiB at least"]);
    let peer = ["replay", "t.trace", "--over", "snmalloc"];
    assert_refused(&lab, &peer, 2, &["cargo lab bench smp", "LD_PRELOAD"]);
    let deep = "arena(".repeat(5000);
    assert_refused(&lab, &["replay", "t.trace", "--over", &deep], 2, &["more than 32 layers"]);
    if cfg!(not(feature = "mimalloc")) {
        assert_refused(&lab, &["replay", "t.trace", "--over", "mimalloc"], 2, &["cargo run", "--features mimalloc"]);
    }
}

#[test]
fn what_cannot_be_read_is_named_with_the_remedy() {
    let lab = Lab::new();
    fs::write(lab.path("empty"), "").unwrap();
    fs::write(lab.path("prose"), "It was a dark and stormy night.\n").unwrap();
    fs::write(lab.path("bent.txt"), "1: malloc 0x10 8\n1: mallloc 0x20 8\n").unwrap();
    for word in ["info", "replay", "compare"] {
        let over: &[&str] = if word == "replay" { &["--over", "page"] } else { &[] };
        let refused = |file: &str, wanted: &[&str]| assert_refused(&lab, &[&[word, file], over].concat(), 1, wanted);
        refused("nowhere", &["cannot open nowhere", "check the path"]);
        refused("empty", &["empty", "byte 0"]);
        refused("prose", &["prose", "byte 0"]);
        refused("bent.txt", &["line 2", "byte 17"]);
        refused(".", &["name a file"]);
    }
    assert_refused(&lab, &["import", "prose", "-o", "out.trace"], 1, &["prose", "byte 0"]);
    assert_refused(&lab, &["import", "bent.txt", "-o", "out.trace"], 1, &["line 2"]);
    assert!(!lab.path("out.trace").exists(), "nothing half-written is left");
    assert_eq!(fs::read_dir(lab.folder.path()).unwrap().count(), 3, "and no partial file");
}

#[test]
fn info_tells_of_the_machine() {
    let lab = Lab::new();
    lab.trace("t.trace", 1, 3);
    let (said, figures) = lab.figures(&["info", "--machine"]);
    let nodes = figures["nodes"].as_array().expect("nodes");
    assert!(!nodes.is_empty() && figures["distances"].as_array().map(Vec::len) == Some(nodes.len()), "{figures}");
    assert!(figures["page_bytes"].as_u64() >= Some(4096) && figures["simd"]["used"].is_string(), "{figures}");
    assert!(
        ["CPUs", "hugetlb", "transparent", "SIMD", "node "].iter().all(|word| said.out.contains(word)),
        "{}",
        said.out
    );
    assert!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
    for clash in [&["info", "--machine", "t.trace"][..], &["info", "--machine", "--partial"]] {
        assert_refused(&lab, clash, 2, &["reads no trace", "leave one of the two out"]);
    }
    assert_refused(&lab, &["info"], 2, &["<TRACE>"]);
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_the_work() {
    let lab = Lab::new();
    lab.trace("t.trace", 1, 3);
    fs::write(lab.path("t.txt"), "1: malloc 0x10 8\n").unwrap();
    let said = lab.run(&["compare", "t.trace", "--json", "no/such/folder.json"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no/such/folder.json cannot be written") && said.err.contains("--json"), "{}", said.err);
    assert!(!said.err.contains("weighing"), "before the replays: {}", said.err);
    assert_refused(&lab, &["import", "t.txt", "-o", "no/such/t.trace"], 1, &["no/such/t.trace", "-o"]);
    assert_refused(&lab, &["import", "t.txt", "-o", "t.txt"], 1, &["input itself"]);
    assert_refused(&lab, &["info", "t.trace", "--json", "/dev/full"], 1, &["/dev/full", "No space left"]);
    assert_refused(&lab, &["import", "t.txt", "-o", "/dev/full"], 1, &["/dev/full", "No space left"]);
    let device = fs::metadata("/dev/full").unwrap();
    assert!(!device.is_file(), "a device is written, not replaced");
}

#[test]
fn a_failed_command_leaves_an_older_json_file_alone() {
    let lab = Lab::new();
    fs::write(lab.path("old.json"), "old").unwrap();
    assert_refused(&lab, &["info", "nowhere", "--json", "old.json"], 1, &["nowhere"]);
    assert_refused(&lab, &["info", "nowhere", "--json", "new.json"], 1, &["nowhere"]);
    assert_eq!(fs::read_to_string(lab.path("old.json")).unwrap(), "old");
    assert!(!lab.path("new.json").exists());
}

#[test]
fn a_trace_cut_anywhere_is_refused_and_readable_in_part() {
    let lab = Lab::new();
    let events = lab.trace("t.trace", 3, 400).events;
    let whole = fs::read(lab.path("t.trace")).unwrap();
    for cut in [0, 1, 7, 30, whole.len() / 2, whole.len() - 1] {
        fs::write(lab.path("cut.trace"), &whole[..cut]).unwrap();
        assert_refused(&lab, &["info", "cut.trace"], 1, &["cut.trace", "byte"]);
        assert_refused(&lab, &["replay", "cut.trace", "--over", "page"], 1, &["cut.trace", "byte"]);
    }
    let (_, figures) = lab.figures(&["info", "cut.trace", "--partial"]);
    assert_eq!((figures["events"].as_u64(), figures["truncated"].as_bool()), (Some(events), Some(true)));
}

#[test]
fn a_trace_with_a_flipped_bit_is_refused_or_harmless() {
    let lab = Lab::new();
    lab.trace("t.trace", 2, 20);
    let whole = fs::read(lab.path("t.trace")).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bent = whole.clone();
        bent[at] ^= 1 << (at % 8);
        fs::write(lab.path("bent.trace"), &bent).unwrap();
        let said = lab.run(&["info", "bent.trace", "--partial"]);
        assert!(said.code == 0 || (said.code == 1 && said.err.starts_with("error: ")), "byte {at}: {}", said.err);
        refused += said.code;
    }
    assert!(refused > 10, "most bytes matter: {refused}");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let lab = Lab::new();
    lab.trace("t.trace", 1, 3);
    for arguments in [&["info", "t.trace"][..], &["info", "t.trace", "--json", "-"], &["--help"]] {
        let mut child = lab.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn the_labs_own_word_takes_no_nonsense() {
    let lab = Lab::new();
    assert_refused(&lab, &["replay-child", "{}"], 1, &["lab replay"]);
    // Nothing on stdin, where a program should stand.
    let job = r#"{"subject":"null","touch":"page","threads":false,"weigh":false,"seed":1}"#;
    assert_refused(&lab, &["replay-child", job], 1, &["run the command again"]);
}

/// A stand-in for cargo that does what the script says.
fn fake_cargo(lab: &Lab, script: &str) -> std::path::PathBuf {
    let path = lab.path("cargo");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn bench_shows_the_peers_rows_and_passes_them_on() {
    let lab = Lab::new();
    fs::create_dir(lab.path("peers")).unwrap();
    fs::write(lab.path("peers/Cargo.toml"), "").unwrap();
    let rows = r#"[{"group":"arena","cell":"alloc 8","ours_ns":1.5,"peers":{"bumpalo":2.0,"blink":3.0},"best_peer":"bumpalo","ratio":0.75}]"#;
    let cargo = fake_cargo(&lab, &format!("echo \"$@\" >&2\ncat <<'END'\n{rows}\nEND"));
    let said = said(
        lab.command(&["bench", "arena", "--json", "rows.json", "--", "--instructions"])
            .env("CARGO", cargo)
            .output()
            .unwrap(),
    );
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("-- arena --instructions"), "{}", said.err);
    assert!(said.out.contains("alloc 8") && said.out.contains("bumpalo") && said.out.contains("0.750"), "{}", said.out);
    let written = fs::read_to_string(lab.path("rows.json")).unwrap();
    let (written, rows): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&written).unwrap(), serde_json::from_str(rows).unwrap());
    assert_eq!(written, rows);
}

#[test]
fn bench_says_what_went_wrong() {
    let lab = Lab::new();
    assert_refused(&lab, &["bench", "arena"], 1, &["inside a checkout of Terrace"]);
    fs::create_dir(lab.path("peers")).unwrap();
    fs::write(lab.path("peers/Cargo.toml"), "").unwrap();
    let cargo = fake_cargo(&lab, "echo 'no group areana; the groups are page, arena' >&2; exit 2");
    let said = said(lab.command(&["bench", "areana"]).env("CARGO", cargo).output().unwrap());
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("the groups are page, arena")
            && said.err.contains("error: the benchmark group areana failed")
    );
}
