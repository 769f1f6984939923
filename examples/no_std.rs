//! Builds the programs in `examples/no_std` as their reader would, runs them, and looks for std in them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds one of them, and says where it is.
fn build(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("no_std");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_std");
    let built = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--locked", "--bin", name, "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS") // A sanitizer's run-time library would bring std along.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(built.success());
    target.join("debug").join(name)
}

/// What the program prints; std is not in it.
fn story(name: &str) -> String {
    let program = build(name);
    let output = Command::new(&program).output().expect("the program runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{printed}");
    let bytes = fs::read(program).expect("the program's file");
    assert!(!bytes.windows(11).any(|window| window == b"library/std"), "std was linked in");
    printed
}

#[test]
fn the_program_without_std_runs_and_holds_no_std() {
    assert_eq!(story("terrace-example-no-std"), "10 squares end in 81; 80 of 4096 bytes\n");
}

#[test]
fn the_kernel_boots_from_memory_map_to_heap_and_holds_no_std() {
    let printed = story("kernel_boot");
    // As the head of `kernel_boot.rs` shows it.
    let head: Vec<_> = include_str!("kernel_boot.rs").lines().filter_map(|line| line.strip_prefix("//! ")).collect();
    for line in printed.lines() {
        assert!(head.contains(&line), "not in the head: {line}");
    }
    let all_back = printed.lines().last().and_then(|line| line.strip_prefix("end     "));
    let [free, total] = all_back.map(|line| line.split(" of ").collect::<Vec<_>>()).expect("an end")[..] else {
        panic!("another end: {all_back:?}");
    };
    assert_eq!(total.strip_suffix(" frames free"), Some(free), "all that was handed out is back");
}
