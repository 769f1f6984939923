//! What the tests of the command line share: the lab as a process, and traces to feed it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use terrace_trace::{AllocKind, BlockId, Event, FreeKind, Header, Op, Reader, Summary, ThreadId, Writer};

/// A folder for a test, and the lab to run in it.
pub struct Lab {
    pub folder: TempDir,
}

/// What the lab did.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Lab {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The lab with these arguments, in the folder, without what cargo tells its children.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("CARGO_MANIFEST_DIR").stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    /// As `run`, of what must succeed and write JSON.
    pub fn figures(&self, arguments: &[&str]) -> (Said, Value) {
        let said = self.run(&[arguments, &["--json", "figures.json"]].concat());
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
        let text = std::fs::read_to_string(self.path("figures.json")).unwrap();
        (said, serde_json::from_str(&text).unwrap())
    }

    /// Writes a trace of so many threads and rounds into the folder; returns its figures.
    pub fn trace(&self, name: &str, threads: u32, rounds: u32) -> Summary {
        write_trace(&self.path(name), threads, rounds);
        summary(&self.path(name))
    }
}

pub fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub fn summary(path: &Path) -> Summary {
    Summary::of_stream(Reader::open(path).unwrap().stream()).unwrap()
}

/// Each thread allocates in every round, resizes and frees what the thread before it made, and leaves the last round's.
fn write_trace(path: &Path, threads: u32, rounds: u32) {
    let mut writer = Writer::create(path, Header::default()).unwrap();
    let mut push = |thread, op| writer.push(Event { thread: ThreadId(thread), op }).unwrap();
    for thread in 0..threads {
        push(thread, Op::ThreadStart);
    }
    for round in 0..rounds {
        for thread in 0..threads {
            let (block, len) = (BlockId(thread), u64::from((round * 37 + thread * 911) % 6000));
            let kind = [AllocKind::Plain, AllocKind::Zeroed, AllocKind::Aligned][round as usize % 3];
            push(thread, Op::Alloc { block, len, align_log2: 4 + (round % 3) as u8, kind });
        }
        for thread in 0..threads {
            let block = BlockId((thread + 1) % threads);
            push(thread, Op::Realloc { block, len: u64::from((round * 53) % 9000), moved: true });
            if round + 1 < rounds {
                push(thread, Op::Free { block, kind: FreeKind::Plain });
            }
        }
    }
    for thread in (0..threads).step_by(2) {
        push(thread, Op::ThreadEnd);
    }
    writer.finish().unwrap();
}
