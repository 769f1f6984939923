//! Asks the compiler whether std's unstable `Allocator` is to be had, where the feature `nightly` asks for its bridge.
//!
//! Sets `cfg(terrace_nightly)` where `src/bridge/probe.rs`, which uses all that the bridge uses, compiles for the
//! target, with the flags and through the wrappers that cargo will use for the crate. The version's name is not
//! asked: a nightly may have changed the trait. `RUSTC_BOOTSTRAP` in the environment is no permission: that somebody wants
//! a stable compiler to take unstable code *somewhere* says nothing about this crate, so the probe runs without it.

use std::{env, ffi::OsString, fs, path::Path, process::Command, process::Stdio};

const PROBE: &str = "src/bridge/probe.rs";

fn main() {
    println!("cargo:rustc-check-cfg=cfg(terrace_nightly)");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={PROBE}");
    println!("cargo:rerun-if-env-changed=RUSTC_BOOTSTRAP");
    if env::var_os("CARGO_FEATURE_NIGHTLY").is_some() && probe_compiles() {
        println!("cargo:rustc-cfg=terrace_nightly");
    }
}

/// A compiler that cannot be run has no unstable trait to offer either; cargo will say what is wrong with it.
fn probe_compiles() -> bool {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    // As cargo calls it: wrapper, wrapper of the workspace's members, compiler.
    let mut call = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC"].into_iter().filter_map(named);
    let (Some(program), Some(out)) = (call.next(), named("OUT_DIR")) else { return false };
    let out = Path::new(&out).join("probe"); // Emptied below: its dep-info would name this machine's paths.
    let _ = fs::create_dir_all(&out);
    let mut compiler = Command::new(program);
    compiler.args(call).args(["--edition=2024", "--crate-name=probe", "--crate-type=lib", "--emit=metadata"]);
    compiler.arg("--cap-lints=allow").arg("--out-dir").arg(&out).arg(PROBE);
    if let Some(target) = named("TARGET") {
        compiler.arg("--target").arg(target);
    }
    // Target features, a sysroot, or `-Zallow-features` that forbids what the probe asks for.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    compiler.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    // "-1" asks a nightly to behave as a stable compiler, and cargo will have the crate compiled so.
    if named("RUSTC_BOOTSTRAP") != Some(OsString::from("-1")) {
        compiler.env_remove("RUSTC_BOOTSTRAP");
    }
    let compiled = compiler.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    let _ = fs::remove_dir_all(&out);
    compiled
}
