//! Compiles the recorder, the library that `lab record` preloads, for the lab to carry inside.
//!
//! It must be a library of its own, for its `malloc` must not become the lab's: as a dependency it
//! would be linked in, and `cargo run` builds nobody else's shared library. So it is compiled here, by
//! the same compiler, from `recorder/`, which needs no crates; `cargo run` and `cargo install` both come this way.
//! Elsewhere than on Linux with glibc the file is empty, and `record` says so.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=recorder");
    let library = PathBuf::from(variable("OUT_DIR")).join("recorder.so");
    let supported = variable("CARGO_CFG_TARGET_OS") == "linux"
        && variable("CARGO_CFG_TARGET_ENV") == "gnu"
        && ["x86_64", "aarch64"].iter().any(|arch| variable("CARGO_CFG_TARGET_ARCH") == *arch);
    let outcome = if supported { compile(&library) } else { std::fs::write(&library, []).map_err(|e| e.to_string()) };
    if let Err(reason) = outcome {
        println!("cargo::error=the recorder could not be built: {reason}");
        exit(1);
    }
}

fn compile(library: &PathBuf) -> Result<(), String> {
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["recorder/lib.rs", "--crate-name", "recorder", "--crate-type", "cdylib", "--edition", "2024"]);
    rustc.arg("--target").arg(variable("TARGET")).arg("-o").arg(library);
    rustc.args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1", "-C", "strip=symbols"]);
    // `initfirst`: before the constructors of other libraries, so that their calls are seen too.
    // `Bsymbolic-functions`: where a program defines `malloc` itself, ours still means ours.
    rustc.args(["-C", "link-arg=-Wl,-z,initfirst", "-C", "link-arg=-Wl,-Bsymbolic-functions,-z,defs"]);
    rustc.args(["--cap-lints", "allow"]); // Clippy reads the same files as a module of the lab.
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    let output = rustc.output().map_err(|error| format!("{}: {error}", rustc.get_program().to_string_lossy()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).replace('\n', " / ")) }
}

fn variable(name: &str) -> OsString {
    // Cargo sets all that are asked for here; the target's environment may be missing where there is none.
    env::var_os(name).unwrap_or_default()
}
