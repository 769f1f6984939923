//! Builds the program in `examples/no_std` as its reader would, runs it, and looks for std in it.

use std::{env, fs, path::Path, process::Command};

#[test]
fn the_program_without_std_runs_and_holds_no_std() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("no_std");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_std");
    let built = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS") // A sanitizer's run-time library would bring std along.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(built.success());
    let program = target.join("debug/terrace-example-no-std");
    let output = Command::new(&program).output().expect("the program runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10 squares end in 81; 80 of 4096 bytes\n");
    let bytes = fs::read(program).expect("the program's file");
    assert!(!bytes.windows(11).any(|window| window == b"library/std"), "std was linked in");
}
