//! `cargo lab`: the library's [`main`](terrace_lab::main).
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    terrace_lab::main()
}
