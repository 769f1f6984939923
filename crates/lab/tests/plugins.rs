//! A lab of one's own: a program that registers an allocator and then is the lab, as the crate's documentation shows it.
//!
//! Without libtest: the lab starts this very binary anew for each replay, and that must be the lab again.

mod support;

use std::{
    env,
    num::NonZeroUsize,
    process::{Command, ExitCode},
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::Value;
use support::{Lab, Said, said};
use terrace::{Alignment, AllocError, Allocator, Gpa, gpa, manager};

/// Says that this process is to be the lab.
const BE_THE_LAB: &str = "TERRACE_TEST_OWN_LAB";
/// Says that an allocator takes a name of the lab's.
const TAKE_A_WORD: &str = "TERRACE_TEST_TAKEN_WORD";

/// Somebody's allocator, which refuses each thousandth block: no allocator of ours does that.
struct Mine {
    backing: Gpa,
    calls: AtomicUsize,
}

static MINE: Mine = Mine { backing: gpa(), calls: AtomicUsize::new(0) };

// SAFETY: every call is the backing's, unchanged, but for refusals.
unsafe impl Allocator for Mine {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if self.calls.fetch_add(1, Relaxed) % 1000 == 999 {
            return Err(AllocError);
        }
        self.backing.alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }
}

fn main() -> ExitCode {
    if env::var_os(BE_THE_LAB).is_some() {
        manager::register("mine", &MINE).expect("the name is free");
        if env::var_os(TAKE_A_WORD).is_some() {
            manager::register("arena", &MINE).expect("the manager does not know the lab's words");
        }
        return terrace_lab::main();
    }
    a_registered_name_is_a_word_of_every_stack();
    a_near_miss_is_told_the_name();
    a_word_of_the_lab_is_no_name();
    println!("3 tests of a lab of one's own passed");
    ExitCode::SUCCESS
}

fn own(lab: &Lab, arguments: &[&str], also: Option<&str>) -> Said {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(arguments).current_dir(lab.folder.path()).env(BE_THE_LAB, "1").envs(also.map(|name| (name, "1")));
    said(command.output().unwrap())
}

fn a_registered_name_is_a_word_of_every_stack() {
    let lab = Lab::new();
    let events = lab.trace("t.trace", 2, 2000);
    let stacks = ["mine", "arena(mine)", "pool(16KiB, mine)", "smp(page)"];
    let mut arguments = vec!["replay", "t.trace", "--rounds", "1", "--json", "figures.json"];
    stacks.iter().for_each(|stack| arguments.extend(["--over", stack]));
    let said = own(&lab, &arguments, None);
    assert_eq!(said.code, 0, "{}", said.err);
    let figures: Value = serde_json::from_slice(&std::fs::read(lab.path("figures.json")).unwrap()).unwrap();
    let row = |name: &str| {
        let mut rows = figures["stacks"].as_array().unwrap().iter();
        rows.find(|row| row["stack"].as_str().unwrap().starts_with(name)).unwrap_or_else(|| panic!("{name}: {figures}"))
    };
    for stack in stacks {
        assert_eq!(row(stack)["corrupted"].as_u64(), Some(0), "{}", row(stack));
    }
    // The refusals are its signature: it was this allocator, in a process that the lab had started.
    let refused = row("mine")["errors"].as_u64().unwrap();
    assert!(refused >= events.allocs / 1000, "{refused} refusals: {}", row("mine"));
    assert_eq!(row("smp(page)")["errors"].as_u64(), Some(0));
    assert!(row("arena(mine)")["backing_allocs"].as_u64().is_some_and(|asked| asked > 0), "{}", row("arena(mine)"));
}

fn a_near_miss_is_told_the_name() {
    let lab = Lab::new();
    lab.trace("t.trace", 1, 2);
    let said = own(&lab, &["replay", "t.trace", "--over", "arena(mien)"], None);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("did you mean mine?") && said.err.contains("registered by this program"), "{}", said.err);
    let said = own(&lab, &["replay", "t.trace", "--over", "mine(page)"], None);
    assert!(said.err.contains("mine stands on nothing"), "{}", said.err);
}

fn a_word_of_the_lab_is_no_name() {
    let said = own(&Lab::new(), &["--help"], Some(TAKE_A_WORD));
    assert_eq!(said.code, 2);
    assert!(said.err.contains("arena is a word of the lab's own"), "{}", said.err);
}
