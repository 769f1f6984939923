//! The library as its users have it: built for release, loaded by name.

use std::{
    env,
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

/// Builds `libterrace_malloc.so` and says where it lies.
pub fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // Beside this test's own folder, so that the sanitizers' and the coverage's builds stay apart.
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("malloc");
        let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["build", "--release", "--quiet", "--package", "terrace-malloc", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            // A sanitizer's own malloc and ours exclude one another.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("LD_PRELOAD")
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the library is built");
        target.join("release/libterrace_malloc.so")
    })
}

/// The command, to be run with the library as its malloc.
#[allow(dead_code, reason = "not every test that has this module starts programs")]
pub fn preloaded(command: &mut Command) -> &mut Command {
    command.env("LD_PRELOAD", library())
}

/// What a command printed; a failure shows all of it.
#[allow(dead_code, reason = "not every test that has this module starts programs")]
pub fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}
