//! Other people's test suites, unmodified, over our allocators.
//!
//! ```text
//!  cargo's registry folder                    scratch workspace in target/tmp (nothing of theirs is kept here)
//!  hashbrown-x.y.z/src, tests ◀── by path ─── hashbrown ──▶ substitute: allocator-api2 but for `Global`
//!  allocator-api2-x.y.z/src ──── copied ────▶ api2_0x, its `alloc/global.rs` exchanged
//!                                                          └──▶ tests/suites/lib.rs: Global, monitored
//! ```
//!
//! hashbrown's unit tests and its `tests/` take `Global` from allocator-api2, so they run as they are over an
//! allocator-api2 whose `Global` is ours. allocator-api2's package carries no tests of its `Vec` and `Box` but their
//! documentation's examples; those run over a copy in which the file of `Global` is ours and one line of `alloc/mod.rs`,
//! which names `alloc` and `dealloc`, follows it. 0.2's examples were taken over from std: some do not compile anywhere,
//! and are counted apart.
//!
//! `cargo fetch --manifest-path tests/suites/Cargo.toml` brings the packages, `.ci/run suites` does and runs everything.
//! Where they are missing, the tests say so and pass, unless `TERRACE_SUITES=required`.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;

const STACKS: [&str; 3] = ["system", "page", "sync_arena(page)"];
/// Version, the package's name in the scratch workspace, the folder of its modules.
const API2: [(&str, &str, &str); 3] =
    [("0.2.21", "api2_02", "src/stable"), ("0.3.1", "api2_03", "src"), ("0.4.0", "api2_04", "src")];
const HASHBROWN: &str = "0.17.1";
const HASHBROWN_TESTS: [&str; 6] = ["equivalent_trait", "hasher", "hasher_unwind", "rayon", "serde", "set"];

/// One at a time: they share the scratch workspace.
static SCRATCH: Mutex<()> = Mutex::new(());

struct Scratch {
    root: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

fn suites() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suites")
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The suites' own lints, and the flags that this test was built with, are not what is tested.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "RUSTDOCFLAGS"] {
        cargo.env_remove(name);
    }
    cargo.env("RUSTFLAGS", "--cap-lints=allow").env("RUST_BACKTRACE", "0").env("CARGO_TERM_COLOR", "never");
    cargo
}

/// The folders of the packages, by name and version, or why there are none.
fn packages() -> Result<BTreeMap<(String, String), PathBuf>, String> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        manifest_path: PathBuf,
    }
    let output = cargo()
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--manifest-path"])
        .arg(suites().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let folder = |package: &Package| package.manifest_path.parent().expect("in a folder").to_path_buf();
    Ok(metadata.packages.into_iter().map(|p| ((p.name.clone(), p.version.clone()), folder(&p))).collect())
}

impl Scratch {
    /// `None` where the packages are not on this machine.
    fn new() -> Option<Self> {
        let alone = SCRATCH.lock().unwrap_or_else(PoisonError::into_inner);
        let packages = match packages() {
            Ok(packages) => packages,
            Err(why) => {
                let required = env::var("TERRACE_SUITES").is_ok_and(|value| value == "required");
                assert!(!required, "{why}");
                eprintln!("skipped: `cargo fetch --manifest-path tests/suites/Cargo.toml` brings the packages\n{why}");
                return None;
            }
        };
        let folder = |name: &str, version: &str| &packages[&(name.to_owned(), version.to_owned())];
        let scratch = Self { root: Path::new(env!("CARGO_TARGET_TMPDIR")).join("suites"), _alone: alone };
        scratch.write("Cargo.lock", &fs::read_to_string(suites().join("Cargo.lock")).expect("committed"));
        scratch.write("Cargo.toml", WORKSPACE);
        scratch.write("substitute/Cargo.toml", &SUBSTITUTE.replace("SUITES", &quoted(&suites())));
        scratch.write("substitute/lib.rs", SUBSTITUTE_LIB);
        scratch.write("hashbrown/Cargo.toml", &hashbrown_manifest(folder("hashbrown", HASHBROWN)));
        for (version, name, modules) in API2 {
            scratch.copy(&folder("allocator-api2", version).join("src"), &format!("{name}/src"));
            scratch.exchange_global(&format!("{name}/{modules}/alloc"));
            let manifest = API2_MANIFEST.replace("NAME", name).replace("SUITES", &quoted(&suites()));
            let core = quoted(&suites().join("../../crates/core"));
            scratch.write(&format!("{name}/Cargo.toml"), &manifest.replace("CORE", &core));
        }
        Some(scratch)
    }

    /// Leaves a file that is as it should be, so that cargo does not build it again.
    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return;
        }
        fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }

    /// All but the files that `exchange_global` writes.
    fn copy(&self, from: &Path, to: &str) {
        for entry in fs::read_dir(from).expect("a folder can be read").flatten() {
            let to = format!("{to}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                self.copy(&entry.path(), &to);
            } else if to.ends_with("alloc/mod.rs") {
                let text = fs::read_to_string(entry.path()).expect("a source is text");
                assert_eq!(text.matches(ALLOC_LINE).count(), 1, "{to} names the global allocator's functions once");
                self.write(&to, &text.replace(ALLOC_LINE, OUR_ALLOC_LINE));
            } else if !to.ends_with("alloc/global.rs") {
                self.write(&to, &fs::read_to_string(entry.path()).expect("a source is text"));
            }
        }
    }

    fn exchange_global(&self, folder: &str) {
        self.write(&format!("{folder}/global.rs"), OUR_GLOBAL);
    }

    fn test(&self, stack: &str, args: &[&str]) -> Ran {
        let output = cargo()
            .current_dir(&self.root)
            .args(["test", "--offline", "--no-fail-fast"])
            .args(args)
            .args(["--target-dir", "target"])
            .env("TERRACE_SUITE_STACK", stack)
            .output()
            .expect("cargo runs");
        Ran::new(output)
    }
}

/// How a path stands in a manifest.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().expect("a path that a manifest can name"))
}

/// What `cargo test` printed.
struct Ran {
    success: bool,
    passed: usize,
    failed: usize,
    text: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let text = text.into_owned();
        let (mut passed, mut failed) = (0, 0);
        for line in text.lines().filter_map(|line| line.strip_prefix("test result: ")) {
            let count = |what| line.split_once(what)?.0.rsplit(' ').next()?.parse::<usize>().ok();
            passed += count(" passed").expect("a count of what passed");
            failed += count(" failed").expect("a count of what failed");
        }
        Self { success: output.status.success(), passed, failed, text }
    }

    #[track_caller]
    fn assert_passed(&self, at_least: usize) {
        assert!(self.success && self.failed == 0, "{} failed\n{}", self.failed, self.text);
        assert!(self.passed >= at_least, "only {} ran\n{}", self.passed, self.text);
    }
}

#[test]
fn hashbrown_keeps_its_promises_over_ours() {
    let Some(scratch) = Scratch::new() else { return };
    for stack in STACKS {
        let ran = scratch.test(stack, &["-p", "hashbrown", "--lib", "--tests"]);
        println!("hashbrown {HASHBROWN}, its tests over {stack}: {} passed, {} failed", ran.passed, ran.failed);
        ran.assert_passed(170);
    }
    let ran = scratch.test("fixed(0)", &["-p", "hashbrown", "--test", "set"]);
    assert!(!ran.success && ran.passed == 0, "the suite does not use the allocator:\n{}", ran.text);
}

#[test]
#[ignore = "six hundred programs, most compiled alone: some minutes; .ci/run suites runs it"]
fn the_examples_of_hashbrown_and_allocator_api2_run_over_ours() {
    let Some(scratch) = Scratch::new() else { return };
    let ran = scratch.test("sync_arena(page)", &["-p", "hashbrown", "--doc"]);
    println!("hashbrown {HASHBROWN}, its examples: {} passed, {} failed", ran.passed, ran.failed);
    ran.assert_passed(250);
    for (version, name, _) in API2 {
        let ran = scratch.test("sync_arena(page)", &["-p", name, "--doc"]);
        let uncompiled = ran.text.matches("Couldn't compile the test.").count();
        println!(
            "allocator-api2 {version}, its examples of Vec and Box: {} passed, {} failed, {uncompiled} do not compile",
            ran.passed,
            ran.failed - uncompiled,
        );
        match version {
            "0.2.21" => {
                assert_eq!(ran.failed, uncompiled, "{}", ran.text);
                assert!(ran.passed >= 100, "only {} ran\n{}", ran.passed, ran.text);
            }
            _ => ran.assert_passed(150),
        }
    }
}

#[test]
fn the_suites_are_those_of_the_versions_in_use() {
    let lock = fs::read_to_string(suites().join("../../Cargo.lock")).expect("committed");
    let used = |name: &str, version: &str| lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n"));
    assert!(used("hashbrown", HASHBROWN), "Cargo.lock has another hashbrown than tests/suites");
    for (version, ..) in API2 {
        assert!(used("allocator-api2", version), "Cargo.lock has another allocator-api2 than tests/suites");
    }
}

/// Debug information would only make linking six hundred programs slower.
const WORKSPACE: &str = r#"[workspace]
resolver = "3"
members = ["hashbrown", "substitute", "api2_02", "api2_03", "api2_04"]

[profile.dev]
debug = false
incremental = false
"#;

const SUBSTITUTE: &str = r#"[package]
name = "substitute"
edition = "2024"

[lib]
name = "allocator_api2"
path = "lib.rs"

[features]
alloc = []

[dependencies]
real = { package = "allocator-api2", version = "=0.2.21" }
terrace-suites = { path = SUITES }
"#;

const SUBSTITUTE_LIB: &str = "pub use real::*;

pub mod alloc {
    pub use real::alloc::*;
    pub use terrace_suites::Global;
}
";

const ALLOC_LINE: &str = "pub use alloc_crate::alloc::{alloc, alloc_zeroed, dealloc, realloc};";
const OUR_ALLOC_LINE: &str = "pub use self::global::{alloc, alloc_zeroed, dealloc, realloc};";
const OUR_GLOBAL: &str = "pub use terrace_suites::{Global, alloc, alloc_zeroed, dealloc, realloc};

terrace_core::bridge_shell! { [crate] impl[] for Global }
";

const API2_MANIFEST: &str = r#"[package]
name = "NAME"
edition = "2018"

[lib]
name = "allocator_api2"

[features]
default = ["std"]
alloc = []
std = ["alloc"]

[dependencies]
terrace-core = { path = CORE }
terrace-suites = { path = SUITES }
"#;

/// Its own manifest but for allocator-api2, and for criterion, whose benchmarks are not run.
fn hashbrown_manifest(folder: &Path) -> String {
    let library = quoted(&folder.join("src/lib.rs"));
    let mut manifest = HASHBROWN_MANIFEST.replace("LIBRARY", &library);
    for name in HASHBROWN_TESTS {
        let path = quoted(&folder.join("tests").join(format!("{name}.rs")));
        manifest += &format!("\n[[test]]\nname = \"{name}\"\npath = {path}\n");
    }
    let carried = fs::read_dir(folder.join("tests")).expect("the package carries its tests").count();
    assert_eq!(carried, HASHBROWN_TESTS.len(), "no test of the package is left out");
    manifest
}

const HASHBROWN_MANIFEST: &str = r#"[package]
name = "hashbrown"
edition = "2024"

[lib]
path = LIBRARY

[features]
default = ["default-hasher", "inline-more", "allocator-api2", "equivalent", "raw-entry", "rayon", "serde"]
default-hasher = ["dep:foldhash"]
inline-more = []
nightly = []
raw-entry = []
serde = ["dep:serde_core"]

[dependencies]
allocator-api2 = { package = "substitute", path = "../substitute", optional = true }
equivalent = { version = "1", optional = true, default-features = false }
foldhash = { version = "0.2", optional = true, default-features = false }
rayon = { version = "1.9", optional = true }
serde_core = { version = "1", optional = true, default-features = false }

[dev-dependencies]
bumpalo = { version = "3.20", features = ["allocator-api2"] }
fnv = "1.0.7"
libc = "0.2"
rand = { version = "0.9", features = ["small_rng"] }
rayon = "1.9"
serde_test = "1"
"#;
