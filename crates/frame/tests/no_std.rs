//! A static library over this crate, with a panic handler of its own, as a kernel links it: it builds, and nothing of
//! std is in it.
//!
//! ```text
//!  a crate, no_std ── cargo build ──▶ libprobe.a   [ probe │ terrace_frame │ terrace_core │ core │ … ]   no member, no
//!  the same with std ───────────────▶ libprobe.a   [ … │ std │ … ]                                       symbol of std
//! ```
//!
//! The second one shows that the look finds std where it is.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every kind of allocator, and `Region`, reached from an exported function, so that their code is kept.
const WITHOUT_STD: &str = r#"
#![no_std]
use terrace_frame::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Frame, FrameAllocator, Frames, HybridAllocator, MapEntry,
    MemoryMap, Order, Region, Request,
};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

fn ask(frames: &dyn FrameAllocator) -> usize {
    let Ok(run) = frames.alloc(&Request::frames(24).aligned(16)) else { return 0 };
    let mut batch = [Frame(0); 8];
    let got = frames.alloc_batch(Order::MIN, &mut batch);
    let _ = (frames.free_batch(Order::MIN, &batch[..got]), frames.free(run));
    frames.drain();
    frames.free_frames()
}

#[unsafe(no_mangle)]
pub extern "C" fn frames_without_std(words: &mut [u64; 4096], memory: *mut u8) -> usize {
    let Ok(map) = MemoryMap::new(&[MapEntry::usable(0, 64 << 20), MapEntry::reserved(0, 0x10_0000)]) else { return 0 };
    let words = words.as_mut_slice();
    let mut free = 0;
    free += BitmapAllocator::new(&map, words).map_or(0, |frames| ask(&frames));
    free += BuddyAllocator::new(&map, words).map_or(0, |frames| ask(&frames));
    free += ClassicBuddyAllocator::new(&map, words).map_or(0, |frames| ask(&frames));
    let Some(memory) = core::ptr::NonNull::new(memory) else { return free };
    let Ok(frames) = HybridAllocator::new(&map, words) else { return free };
    let _ = frames.alloc(&Request::frames(600).within(Frames::new(512, 4096)).near(Frame(600)));
    // SAFETY: whoever calls this vouches for the memory.
    let region = unsafe { Region::new(memory, frames) };
    free + region.map_or(0, |region| ask(region.frames()))
}
"#;

/// The same crate with std's own panic handler, and a use of std.
const WITH_STD: &str = r#"
pub use terrace_frame::Frame;

#[unsafe(no_mangle)]
pub extern "C" fn frames_with_std() -> usize {
    std::env::args().count() + Frame(0).0
}
"#;

/// Builds a static library of `source`, and returns its bytes.
fn library(name: &str, source: &str) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let probe = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(probe.join("src")).expect("a folder");
    let manifest = format!(
        "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"staticlib\"]\n\
         [dependencies]\nterrace-frame = {{ path = {here:?} }}\n\
         [profile.dev]\npanic = \"abort\"\n\
         [workspace]\n"
    );
    fs::write(probe.join("Cargo.toml"), manifest).expect("a file");
    fs::write(probe.join("src/lib.rs"), source).expect("a file");
    // The versions that are tested here, and no others from elsewhere.
    let _ = fs::copy(here.join("../../Cargo.lock"), probe.join("Cargo.lock"));
    let built = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--manifest-path"])
        .arg(probe.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(probe.join("target"))
        .env_remove("RUSTFLAGS") // A sanitizer's run-time library would bring std along.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(built.success(), "{name} does not build");
    let file = ["libprobe.a", "probe.lib"].into_iter().map(|file| probe.join("target/debug").join(file));
    fs::read(file.into_iter().find(|path| path.is_file()).expect("a static library")).expect("its bytes")
}

/// What of std there is: a symbol, in either mangling, an object file's name, a source file's.
fn traces_of_std(library: &[u8]) -> Vec<&'static str> {
    ["_3std", "_ZN3std", ".std.", "library/std"]
        .into_iter()
        .filter(|trace| library.windows(trace.len()).any(|window| window == trace.as_bytes()))
        .collect()
}

#[test]
fn a_static_library_with_its_own_panic_handler_holds_no_std() {
    let without = library("no_std_probe", WITHOUT_STD);
    assert_eq!(traces_of_std(&without), [""; 0]);
    let name = b"frames_without_std";
    assert!(without.windows(name.len()).any(|window| window == name), "the library holds the code");
    let with = library("std_probe", WITH_STD);
    assert!(traces_of_std(&with).len() > 2, "std is not seen where it is: {:?}", traces_of_std(&with));
}
