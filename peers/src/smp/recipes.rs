//! How each contestant's shared library is made. A recipe's command line is kept beside what it made, and is run again
//! only when it changes.
//!
//! Three of the peers are one or two source files and are compiled here, with the flags of their own builds for a shared
//! library to preload; jemalloc and tcmalloc are built by their crates' scripts and linked here.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A library and where its sources come from.
type Made = (PathBuf, String);

/// Where things lie.
pub struct Places {
    workspace: PathBuf,
    target: PathBuf,
    /// What is made here.
    pub libraries: PathBuf,
}

impl Places {
    pub fn new() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = workspace.canonicalize().unwrap_or(workspace);
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        Self { libraries: target.join("preload"), workspace, target }
    }

    fn manifest(&self) -> PathBuf {
        self.workspace.join("peers/preload/Cargo.toml")
    }

    /// The folder of a crate's sources, and its name with version; fetched where they are not here yet.
    fn sources(&self, feature: &str, package: &str) -> Result<Made> {
        let mut command = cargo();
        command.args(["metadata", "--format-version", "1", "--locked", "--features", feature]);
        command.arg("--manifest-path").arg(self.manifest());
        let said: Value = serde_json::from_str(&output(&mut command)?).context("cargo metadata")?;
        let packages = said["packages"].as_array().context("cargo metadata names no packages")?;
        let found =
            packages.iter().find(|found| found["name"] == package).context("the crate is not in the lock file")?;
        let manifest = Path::new(found["manifest_path"].as_str().context("a manifest's path")?);
        let folder = manifest.parent().context("a manifest's folder")?;
        Ok((folder.into(), format!("{package} {}", found["version"].as_str().unwrap_or_default())))
    }

    /// The folder that a crate's build script wrote into.
    fn built(&self, feature: &str, package: &str) -> Result<PathBuf> {
        let mut command = cargo();
        command.args(["build", "--release", "--locked", "--message-format=json", "--features", feature]);
        command.arg("--manifest-path").arg(self.manifest()).arg("--target-dir").arg(self.libraries.join("cargo"));
        let said = output(&mut command)?;
        let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ran = messages.filter(|message| message["reason"] == "build-script-executed");
        let of_package = |id: &str| id.contains(&format!("#{package}@")) || id.contains(&format!("/{package}#"));
        let found = ran.find(|message| message["package_id"].as_str().is_some_and(of_package));
        let found = found.and_then(|message| message["out_dir"].as_str().map(PathBuf::from));
        found.context("the crate's build script did not run")
    }

    /// Runs `command`, to which the name of what it makes is added, unless that is there and was made by the same.
    fn made(&self, name: &str, mut command: Command) -> Result<PathBuf> {
        let library = self.libraries.join(format!("lib{name}.so"));
        let note = library.with_extension("command");
        command.arg("-o").arg(&library);
        let line = format!("{command:?}");
        if !library.is_file() || fs::read_to_string(&note).ok().as_deref() != Some(&line) {
            output(&mut command)?;
            fs::write(note, line)?;
        }
        Ok(library)
    }
}

/// Ours: the file named, or what the workspace's package `terrace-malloc` makes.
pub fn ours(places: &Places, path: Option<&Path>) -> Result<Made> {
    if let Some(path) = path {
        let whole = path.canonicalize().with_context(|| format!("--ours {}: there is no such file", path.display()))?;
        return Ok((whole, path.display().to_string()));
    }
    ensure!(
        places.workspace.join("crates/malloc/Cargo.toml").is_file(),
        "this checkout has no crates/malloc; name a libterrace_malloc.so with --ours PATH"
    );
    let mut command = cargo();
    command.args(["build", "--release", "--quiet", "--package", "terrace-malloc"]).current_dir(&places.workspace);
    output(&mut command)?;
    Ok((places.target.join("release/libterrace_malloc.so"), "crates/malloc".into()))
}

/// Version 2 or 3, which one crate carries.
pub fn mimalloc(places: &Places, version: &str) -> Result<Made> {
    let (folder, source) = places.sources("mimalloc", "libmimalloc-sys")?;
    let folder = folder.join("c_src/mimalloc").join(version);
    let mut command = shared("cc")?;
    command.args(["-std=gnu11", "-fno-builtin-malloc", "-DMI_MALLOC_OVERRIDE", "-DMI_SHARED_LIB"]);
    command.args(["-DMI_SHARED_LIB_EXPORT", "-DMI_BUILD_RELEASE", "-DMI_DEBUG=0"]);
    include(&mut command, &[folder.join("include"), folder.join("src")]);
    command.arg(folder.join("src/static.c"));
    let header = fs::read_to_string(folder.join("include/mimalloc.h")).unwrap_or_default();
    let number = header.lines().find_map(|line| line.strip_prefix("#define MI_MALLOC_VERSION")).unwrap_or_default();
    let number = number.split_whitespace().next().unwrap_or("unknown");
    Ok((places.made(&format!("mimalloc-{version}"), command)?, format!("{source}, mimalloc {number}")))
}

pub fn rpmalloc(places: &Places) -> Result<Made> {
    let (folder, source) = places.sources("rpmalloc", "rpmalloc-sys")?;
    let mut command = shared("cc")?;
    command.args(["-std=gnu11", "-funroll-loops", "-fno-builtin-malloc", "-D_GNU_SOURCE=1"]);
    command.args(["-DENABLE_PRELOAD=1", "-DENABLE_OVERRIDE=1"]);
    command.arg(folder.join("rpmalloc/rpmalloc/rpmalloc.c")).arg("-ldl");
    Ok((places.made("rpmalloc", command)?, source))
}

pub fn snmalloc(places: &Places) -> Result<Made> {
    let (folder, source) = places.sources("snmalloc", "snmalloc-sys")?;
    let folder = folder.join("upstream/src");
    let mut command = shared("c++")?;
    command.args(["-std=c++20", "-fomit-frame-pointer", "-ffunction-sections", "-flto", "-static-libstdc++"]);
    if cfg_x86() {
        command.args(["-mcx16", "-mprfchw"]);
    }
    command.args(["-DSNMALLOC_USE_PTHREAD_DESTRUCTORS", "-DSNMALLOC_CHECK_LOADS=false", "-DSNMALLOC_PAGEID=false"]);
    command.args(["-DSNMALLOC_HAS_LINUX_FUTEX_H", "-DSNMALLOC_HAS_LINUX_RANDOM_H", "-DSNMALLOC_USE_WAIT_ON_ADDRESS=1"]);
    command.args(["-DSNMALLOC_PLATFORM_HAS_GETENTROPY", "-DSNMALLOC_EXPORT=__attribute__((visibility(\"default\")))"]);
    include(&mut command, std::slice::from_ref(&folder));
    command.args(["malloc.cc", "new.cc"].map(|file| folder.join("snmalloc/override").join(file))).arg("-latomic");
    Ok((places.made("snmalloc", command)?, source))
}

pub fn jemalloc(places: &Places) -> Result<Made> {
    let (_, source) = places.sources("jemalloc", "tikv-jemalloc-sys")?;
    let archive = places.built("jemalloc", "tikv-jemalloc-sys")?.join("lib/libjemalloc_pic.a");
    let mut command = shared("cc")?;
    command.arg("-Wl,--whole-archive").arg(archive).args(["-Wl,--no-whole-archive", "-ldl", "-lm"]);
    Ok((places.made("jemalloc", command)?, source))
}

/// Google's. The crate leaves out the C interface, which is one more file of the same sources. The whole archive is taken,
/// or the object whose start-up code turns the caches on would be missing; the crate's bridge, which holds the allocator
/// a second time, comes after ours and is left out.
pub fn tcmalloc(places: &Places) -> Result<Made> {
    let (_, source) = places.sources("tcmalloc", "libtcmalloc-sys")?;
    let built = places.built("tcmalloc", "libtcmalloc-sys")?;
    let folder = built.join("patched_deps/c_src");
    let mut command = shared("c++")?;
    command.args(["-fvisibility=default", "-std=c++17", "-DNOMINMAX", "-DTCMALLOC_INTERNAL_8K_PAGES"]);
    include(&mut command, &[folder.join("abseil-cpp"), folder.join("tcmalloc")]);
    command.arg(folder.join("tcmalloc/tcmalloc/tcmalloc.cc"));
    command.arg("-Wl,--whole-archive,--allow-multiple-definition").arg(built.join("libtcmalloc.a"));
    command.arg("-Wl,--no-whole-archive");
    Ok((places.made("tcmalloc", command)?, source))
}

/// The other tcmalloc, where the system has it: no crate carries its sources.
pub fn gperftools() -> Result<Made> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = folders.iter().map(|folder| Path::new(folder).join("libtcmalloc_minimal.so.4"));
    let found = found.filter_map(|path| path.canonicalize().ok()).find(|path| path.is_file());
    let found = found.context("no libtcmalloc_minimal.so.4 here: apt-get install libtcmalloc-minimal4")?;
    let source = found.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((found, source))
}

/// Zig's SmpAllocator behind a C interface with a header, where there is a Zig.
pub fn zig(places: &Places) -> Result<Made> {
    let ways: [&[&str]; 2] = [&["zig"], &["python3", "-m", "ziglang"]];
    let asked = ways.iter().find_map(|way| {
        let version = Command::new(way[0]).args(&way[1..]).arg("version").output().ok()?;
        let text = String::from_utf8(version.stdout).ok()?;
        version.status.success().then(|| (way, text.trim().to_owned()))
    });
    let (way, version) = asked.context("no Zig here: pip install ziglang")?;
    let library = places.libraries.join("libzig.so");
    let source = places.workspace.join("peers/preload/zig/malloc.zig");
    let newer =
        |a: &Path, b: &Path| Some(fs::metadata(a).ok()?.modified().ok()? > fs::metadata(b).ok()?.modified().ok()?);
    if newer(&library, &source) != Some(true) {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["build-lib", "-dynamic", "-lc", "-OReleaseFast", "-mcpu=baseline"]);
        let mut emit = std::ffi::OsString::from("-femit-bin=");
        emit.push(&library);
        command.arg(emit).arg(&source).current_dir(&places.libraries);
        output(&mut command)?;
    }
    Ok((library, format!("zig {version}, std.heap.smp_allocator with a header of 16 bytes")))
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A compiler that makes an optimised shared library.
fn shared(compiler: &str) -> Result<Command> {
    let mut command = Command::new(tool(compiler)?);
    command.args(["-shared", "-fPIC", "-O3", "-DNDEBUG", "-w", "-pthread"]);
    command.args(["-fvisibility=hidden", "-ftls-model=initial-exec"]);
    Ok(command)
}

fn tool(name: &'_ str) -> Result<&'_ str> {
    let runs = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    ensure!(runs, "there is no `{name}` here: apt-get install build-essential");
    Ok(name)
}

fn include(command: &mut Command, folders: &[PathBuf]) {
    for folder in folders {
        command.arg("-I").arg(folder);
    }
}

fn cfg_x86() -> bool {
    env::consts::ARCH == "x86_64"
}

/// Standard output of a command that succeeds; else the end of what it complained of.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("error")).collect();
        let end = lines.first().copied().or_else(|| said.lines().last()).unwrap_or_default();
        bail!("{name} failed ({}): {end}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
