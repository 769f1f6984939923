//! The feature `nightly` of terrace-core: what its build script decides, asked of cargo itself.
//!
//! The bridge to std's `Allocator` is there on a compiler that has the trait, whatever the environment says; on one that
//! has not, the crate compiles without it. A compiler that is not installed is named as skipped.

use std::{env, path::Path, process::Command};

/// Whether the crate, compiled with the feature, has the bridge. `None`: no such compiler here.
fn offered(toolchain: Option<&str>, bootstrap: Option<&str>) -> Option<bool> {
    // By its name on the path, where rustup knows toolchains; `CARGO` would be the one that runs this test.
    let program = if toolchain.is_some() { "cargo".into() } else { env::var_os("CARGO").unwrap_or("cargo".into()) };
    let cargo = |args: &[&str]| {
        let mut cargo = Command::new(&program);
        cargo.args(toolchain.map(|name| format!("+{name}"))).args(args);
        for name in
            ["RUSTC_BOOTSTRAP", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"]
        {
            cargo.env_remove(name);
        }
        cargo.envs(bootstrap.map(|value| ("RUSTC_BOOTSTRAP", value)));
        cargo
    };
    if !cargo(&["--version"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no toolchain {toolchain:?} here");
        return None;
    }
    // A folder for each, so that no answer of another is found there.
    let target = format!("probe-{}-{}", toolchain.unwrap_or("this"), bootstrap.unwrap_or("unset"));
    let output = cargo(&["check", "--message-format", "json", "--no-default-features", "--features", "nightly"])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/core/Cargo.toml"))
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join(target))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let script = said.lines().find(|line| line.contains("build-script-executed") && line.contains("terrace-core"));
    Some(script.expect("the build script has run").contains("\"terrace_nightly\""))
}

fn this_is_nightly() -> bool {
    let output = Command::new("rustc").arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout);
    version.contains("-nightly") || version.contains("-dev")
}

#[test]
fn this_compiler_offers_the_bridge_if_it_is_a_nightly_one() {
    assert_eq!(offered(None, None), Some(this_is_nightly()));
}

#[test]
fn rustc_bootstrap_is_no_permission() {
    assert_eq!(offered(None, Some("1")), Some(this_is_nightly()));
}

#[test]
fn a_nightly_compiler_offers_it() {
    if let Some(offered) = offered(Some("nightly"), None) {
        assert!(offered);
    }
}

#[test]
fn a_nightly_compiler_told_to_be_stable_does_not_and_compiles() {
    if let Some(offered) = offered(Some("nightly"), Some("-1")) {
        assert!(!offered);
    }
}
