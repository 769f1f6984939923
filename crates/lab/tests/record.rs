//! `lab record` end to end: what the trace says of programs whose calls are known, and what the lab says of programs
//! that cannot be recorded. The known programs are this binary, started again: see [`record_programs`].

mod record_programs;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use record_programs::{BEGIN, COUNTED, END, MANY, PROCESSES, THREADS, TOO_MANY, VARIABLE};
use serde_json::Value;
use terrace_trace::{AllocKind, Event, FreeKind, Nothing, Op, Reader, Summary};

/// Not a test: what the tests record.
#[test]
fn the_recorded_program() {
    record_programs::become_one();
}

/// A recording in a folder of its own.
struct Recording {
    folder: tempfile::TempDir,
    command: Command,
}

impl Recording {
    /// `lab record` of these words.
    fn of(words: &[&str]) -> Self {
        Self::with_options(&[], words)
    }

    fn with_options(options: &[&str], words: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.arg("record").arg("-o").arg(folder.path().join("trace"));
        command.arg("--json").arg(folder.path().join("json")).args(options).arg("--").args(words);
        command.stdin(Stdio::null());
        Self { folder, command }
    }

    /// `lab record` of one of the known programs.
    fn of_known(program: &str) -> Self {
        let mut recording = Self::of(&known_words().each_ref().map(String::as_str));
        recording.command.env(VARIABLE, program);
        recording
    }

    fn run(&mut self) -> Output {
        self.command.output().unwrap()
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    fn events(&self) -> Vec<Event> {
        Reader::open(&self.trace()).unwrap().events().map(Result::unwrap).collect()
    }

    fn summary(&self) -> Summary {
        Summary::of(self.events().into_iter().map(Ok::<_, ()>)).unwrap()
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.path().join("json")).unwrap()).unwrap()
    }
}

fn known_words() -> [String; 5] {
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [own, "--exact".into(), "the_recorded_program".into(), "--nocapture".into(), "--test-threads=1".into()]
}

/// Whether programs can be recorded here. A sanitizer's runtime defines `malloc` itself, and then says so.
fn can_record() -> bool {
    let name = where_malloc_is();
    let can = name.contains("/libc.so") && ["x86_64", "aarch64"].contains(&std::env::consts::ARCH);
    if !can {
        eprintln!("skipped: malloc is that of {name}, so nothing here can be recorded");
    }
    can
}

fn where_malloc_is() -> String {
    // SAFETY: all zero is a valid `Dl_info`.
    let mut place: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `place` is writable; any address may be asked for.
    if unsafe { libc::dladdr(libc::malloc as *const () as *const _, &raw mut place) } == 0 {
        return String::new();
    }
    // SAFETY: a string of the dynamic linker's that stays.
    unsafe { std::ffi::CStr::from_ptr(place.dli_fname) }.to_string_lossy().into_owned()
}

/// The events between the marks of a phase.
fn phase(events: &[Event]) -> &[Event] {
    let mark = |wanted| events.iter().position(|event| matches!(event.op, Op::Alloc { len, .. } if len == wanted));
    let (begin, end) = (mark(BEGIN).unwrap(), mark(END).unwrap());
    &events[begin + 2..end] // the first mark's free is its own
}

fn counted(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.op, Op::Alloc { len: COUNTED, .. })).count()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_labs_own_malloc_is_the_c_librarys() {
    if !can_record() {
        return;
    }
    // glibc's dynamic linker tells what it binds. (A lab that carried the recorder's malloc would bind to itself.)
    let lab = env!("CARGO_BIN_EXE_lab");
    let output = Command::new(lab).arg("--help").env("LD_DEBUG", "bindings").output().unwrap();
    let text = stderr(&output);
    let bound: Vec<&str> = text.lines().filter(|line| line.contains("normal symbol `malloc'")).collect();
    assert!(bound.iter().any(|line| line.contains(&format!("binding file {lab}"))), "{bound:?}");
    assert!(bound.iter().all(|line| line.split(" to ").nth(1).is_some_and(|to| to.contains("/libc.so"))), "{bound:?}");
}

#[test]
fn each_call_is_recorded_as_it_was_made() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of_known("each call once");
    let output = recording.run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events = recording.events();
    let mut names = Vec::new();
    let ops: Vec<String> = phase(&events).iter().map(|event| show(event.op, &mut names)).collect();
    let expected = "a=Plain(100) b=Zeroed(150) c=FromRealloc(7) d=Aligned(10)^6 e=Aligned(64)^5 f=Aligned(11)^12 \
        g=Aligned(12)^12 h=Aligned(13)^12 i=FromRealloc(20) j=Plain(0) \
        no-Aligned(8) no-Plain(18446744073709551607) k=Plain(9) no-FromRealloc(18446744073709551615) \
        no-Zeroed(18446744073709551615) -k a:1000000! -b/realloc l=Plain(5) free(null) \
        -a -c -d -e -f -g -h -i -j -l";
    assert_eq!(ops, expected.split_whitespace().collect::<Vec<_>>());
    assert_eq!(recording.report()["ended"]["exited"]["code"], 0);
}

/// An event in few letters; blocks are named in the order in which they appear.
fn show(op: Op, names: &mut Vec<(u32, char)>) -> String {
    let name = |names: &[(u32, char)], block| names.iter().rev().find(|(known, _)| *known == block).unwrap().1;
    match op {
        Op::Alloc { block, len, align_log2, kind } => {
            names.push((block.0, char::from(b'a' + names.len() as u8)));
            let align = if kind == AllocKind::Aligned { format!("^{align_log2}") } else { String::new() };
            format!("{}={kind:?}({len}){align}", name(names, block.0))
        }
        Op::Realloc { block, len, moved } => {
            format!("{}:{len}{}", name(names, block.0), if moved { "!" } else { "" })
        }
        Op::Free { block, kind: FreeKind::Plain } => format!("-{}", name(names, block.0)),
        Op::Free { block, kind: FreeKind::FromRealloc } => format!("-{}/realloc", name(names, block.0)),
        Op::Nothing(Nothing::Failed { kind, len }) => format!("no-{kind:?}({len})"),
        Op::Nothing(Nothing::FreeNull) => "free(null)".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn blocks_that_sixteen_threads_hand_around_are_never_live_twice() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of_known("threads");
    let output = recording.run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (events, summary) = (recording.events(), recording.summary());
    assert_eq!(counted(phase(&events)), THREADS * MANY);
    let of_threads = |op| phase(&events).iter().filter(|event| event.op == op).count();
    assert_eq!((of_threads(Op::ThreadStart), of_threads(Op::ThreadEnd)), (THREADS, THREADS));
    assert_eq!((summary.overlaps, summary.unknown_frees), (0, 0));
    assert!(summary.cross_frees > 0);
    assert_eq!(recording.report()["overlaps"], 0);
}

#[test]
fn an_address_that_a_realloc_leaves_is_free_for_others_at_once() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of_known("reallocs");
    let output = recording.run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (events, summary) = (recording.events(), recording.summary());
    assert_eq!((summary.overlaps, summary.unknown_frees), (0, 0));
    let reallocs =
        |event: &&Event| matches!(event.op, Op::Realloc { .. } | Op::Alloc { kind: AllocKind::FromRealloc, .. });
    // Rust's own vectors realloc too, but not in these loops.
    assert!(phase(&events).iter().filter(reallocs).count() >= THREADS * MANY / 2);
}

#[test]
fn children_are_followed_through_fork_bare_clone_exec_and_spawn() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of_known("children");
    let output = recording.run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (events, report) = (recording.events(), recording.report());
    assert_eq!(counted(phase(&events)), 3, "one in each child");
    assert_eq!(report["processes"], 5, "{report}");
    assert_eq!(report["images"], 6, "the third child was two programs: {report}");
    let unknown = events.iter().filter(|event| event.op == Op::Nothing(Nothing::FreeUnknown)).count();
    assert_eq!(unknown, 1, "the inherited block, freed in the first child");
    // A child's blocks end with it, not with the program.
    let mut live = Vec::new();
    for event in &events {
        match event.op {
            Op::Alloc { block, len: COUNTED, .. } => live.push(block),
            Op::Free { block, kind } if live.contains(&block) => {
                assert_eq!(kind, FreeKind::Bulk);
                live.retain(|other| *other != block);
            }
            _ => {}
        }
    }
    assert_eq!(live, []);
}

#[test]
fn a_killed_programs_trace_holds_every_call_until_then() {
    if !can_record() {
        return;
    }
    for (program, code) in [("killed", 128 + libc::SIGKILL), ("aborted", 128 + libc::SIGABRT)] {
        let mut recording = Recording::of_known(program);
        let output = recording.run();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(counted(&recording.events()), MANY);
        assert_eq!(recording.report()["ended"]["signaled"]["signal"], code - 128);
        assert!(stderr(&output).contains("ended by signal"), "{}", stderr(&output));
    }
}

#[test]
fn threads_that_are_busy_at_the_end_leave_a_whole_trace() {
    if !can_record() {
        return;
    }
    for (program, code) in [("killed busy", 128 + libc::SIGKILL), ("exits busy", 9)] {
        let mut recording = Recording::of_known(program);
        let output = recording.run();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let summary = recording.summary();
        assert_eq!((summary.overlaps, summary.unknown_frees), (0, 0));
        assert_eq!(summary.thread_starts, summary.thread_ends, "they end with their process");
        assert!(summary.threads as usize > THREADS && summary.reallocs > 0);
    }
}

#[test]
fn the_program_keeps_its_streams_its_name_and_its_exit_code() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of(&["sh", "-c", "cat; echo \"$0\"; echo err >&2; exit 7"]);
    let mut lab =
        recording.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    lab.stdin.take().unwrap().write_all(b"in\n").unwrap();
    let output = lab.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "in\nsh\n");
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("err\n"), "{}", stderr(&output));
    assert!(recording.summary().allocs > 0);
}

#[test]
fn a_second_run_measures_the_overhead_when_asked() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::with_options(&["--rerun"], &["sh", "-c", "echo once"]);
    let output = recording.run();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "once\nonce\n");
    let overhead = &recording.report()["overhead"];
    assert!(overhead["rerun_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{overhead}");
    assert!(["plain_ns", "recorded_ns"].iter().all(|cost| overhead[cost].as_f64() > Some(0.0)), "{overhead}");
}

/// Starts the lab in a process group of its own and waits until its program is ready.
fn start_waiting(recording: &mut Recording) -> Child {
    let mut lab = recording.command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(lab.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("ready")));
    lab
}

#[test]
fn what_stops_the_program_does_not_stop_the_lab() {
    if !can_record() {
        return;
    }
    // As the terminal does: to the whole group. As a script may: to the lab alone.
    for (signal, group) in [(libc::SIGINT, -1), (libc::SIGTERM, 1)] {
        let mut recording = Recording::of_known("waits");
        let mut lab = start_waiting(&mut recording);
        // SAFETY: a child of ours that was not waited for.
        assert_eq!(unsafe { libc::kill(group * lab.id().cast_signed(), signal) }, 0);
        assert_eq!(lab.wait().unwrap().code(), Some(128 + signal));
        assert_eq!(counted(&recording.events()), MANY);
    }
}

/// Records what cannot be: the lab fails with one sentence that contains `cause` and `remedy`, and writes nothing.
fn refused(words: &[&str], cause: &str, remedy: &str) {
    let mut recording = Recording::of(words);
    let output = recording.run();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: ") && text.trim_end().lines().count() == 1, "{text}");
    assert!(text.contains(cause) && text.contains(remedy), "{text}");
    assert!(!recording.trace().exists());
}

fn program_file(folder: &Path, content: &[u8], mode: u32) -> String {
    let path = folder.join("program");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// An ELF file's header without program headers, of this class and machine.
fn elf(class: u8, machine: u8) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
    file[18] = machine;
    file
}

#[test]
fn programs_that_cannot_be_recorded_are_not_run() {
    if !can_record() {
        return;
    }
    let own_machine = if std::env::consts::ARCH == "x86_64" { 62 } else { 183 };
    let folder = tempfile::tempdir().unwrap();
    let file = |content: &[u8], mode| program_file(folder.path(), content, mode);
    refused(&["no-such-program-anywhere"], "no program named", "check the name");
    refused(&["./no/such/program"], "no program", "check the path");
    refused(&["/"], "directory", "name the program in it");
    refused(&[&file(b"#!/bin/sh\n", 0o644)], "not executable", "chmod +x");
    refused(&[&file(b"words\n", 0o755)], "neither a program nor a script", "interpreter");
    refused(&[&file(b"#!/no/such/interpreter\n", 0o755)], "not there", "install it");
    refused(&[&file(&elf(2, own_machine), 0o755)], "statically linked", "link it dynamically");
    refused(&[&file(&elf(1, 3), 0o755)], "another machine", "record it there");
    let itself = folder.path().join("program").to_str().unwrap().to_owned();
    refused(&[&file(format!("#!{itself}\n").as_bytes(), 0o755)], "too many interpreters", "name the last one");
}

/// A program whose `malloc` is its own, as where jemalloc or mimalloc is linked in under that name.
const OWN_MALLOC: &str = r#"
    use std::sync::atomic::{AtomicUsize, Ordering};
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    static mut ROOM: [u128; 1 << 18] = [0; 1 << 18];
    #[unsafe(no_mangle)]
    pub extern "C" fn malloc(len: usize) -> *mut u8 {
        let taken = TAKEN.fetch_add(len.div_ceil(16) * 16, Ordering::Relaxed);
        // SAFETY: this program asks for less than the room has; each call takes bytes of its own.
        unsafe { (&raw mut ROOM).cast::<u8>().add(taken) }
    }
    #[unsafe(no_mangle)]
    pub extern "C" fn calloc(count: usize, len: usize) -> *mut u8 { malloc(count * len) }
    #[unsafe(no_mangle)]
    pub extern "C" fn realloc(_: *mut u8, len: usize) -> *mut u8 { malloc(len) }
    #[unsafe(no_mangle)]
    pub extern "C" fn free(_: *mut u8) {}
    fn main() { std::hint::black_box(Box::new(1)); }
"#;

#[test]
fn a_program_with_a_malloc_of_its_own_is_told_to_have_one() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("own.rs"), folder.path().join("own"));
    std::fs::write(&source, OWN_MALLOC).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let built = Command::new(rustc).args(["--edition", "2024", "-o"]).args([&program, &source]).output().unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    refused(&[program.to_str().unwrap()], "defines malloc itself", "build it with the system's malloc");
}

#[test]
fn a_recording_inside_a_recording_is_a_recording_of_its_own() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let lab = env!("CARGO_BIN_EXE_lab");
    let mut recording = Recording::of(&[lab, "record", "-o", inner.to_str().unwrap(), "--"]);
    let output = recording.command.args(known_words()).env(VARIABLE, "many").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events: Vec<Event> = Reader::open(&inner).unwrap().events().map(Result::unwrap).collect();
    assert_eq!(counted(&events), MANY, "once each");
    assert_eq!(counted(&recording.events()), 0, "the outer one sees the inner lab only");
    assert_eq!(recording.summary().overlaps, 0);
}

#[test]
fn a_spool_that_cannot_be_used_is_told_before_the_program_runs() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let spaced = folder.path().join("with space");
    std::fs::create_dir(&spaced).unwrap();
    for (spool, cause) in [("/no/such/folder", "there is no folder"), (spaced.to_str().unwrap(), "spaces")] {
        let mut recording = Recording::with_options(&["--spool", spool], &["sh", "-c", "echo ran"]);
        let output = recording.run();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "the program did not run");
        assert!(stderr(&output).contains(cause) && stderr(&output).contains("--spool"), "{}", stderr(&output));
    }
}

#[test]
fn a_trace_that_cannot_be_written_is_told_before_the_program_runs() {
    if !can_record() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, ran) = (folder.path().join("file"), folder.path().join("ran"));
    std::fs::write(&file, "").unwrap();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.arg("record").arg("-o").arg(file.join("trace")).args(["--", "touch"]).arg(&ran);
    let output = lab.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("name another place with -o"), "{}", stderr(&output));
    assert!(!ran.exists());
}

#[test]
fn a_full_disk_under_the_trace_is_told() {
    if !can_record() || !Path::new("/dev/full").exists() {
        eprintln!("skipped: no /dev/full here, or no recording");
        return;
    }
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    let output = lab.args(["record", "-o", "/dev/full", "--", "sh", "-c", "echo ran"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n");
    assert!(stderr(&output).contains("free some room"), "{}", stderr(&output));
}

#[test]
fn where_the_spool_may_not_grow_the_program_goes_on_and_the_trace_ends_there() {
    if !can_record() {
        return;
    }
    // The shell records, then it may write no file of a chunk's length; nor may the program that it becomes.
    let mut recording = Recording::of(&["sh", "-c", "ulimit -f 8; \"$@\"; echo went on", "sh"]);
    recording.command.args(known_words()).env(VARIABLE, "many");
    let output = recording.run();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("went on\n"));
    assert!(text.contains("ulimit -f") && text.contains("only the first"), "{text}");
    assert_eq!(counted(&recording.events()), 0);
    assert!(recording.summary().allocs > 0, "the shell's");
}

/// A file system of a few mebibytes, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "terrace"]).arg(folder.path()).output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_under_the_spool_cuts_the_trace_and_not_the_program() {
    let Some(disk) = can_record().then(SmallDisk::mount).flatten() else {
        eprintln!("skipped: a small disk cannot be mounted here");
        return;
    };
    let spool = disk.0.path().to_str().unwrap();
    let mut recording = Recording::with_options(&["--spool", spool], &known_words().each_ref().map(String::as_str));
    let output = recording.command.env(VARIABLE, "too many").output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("is full") && text.contains("--spool"), "{text}");
    let (events, summary) = (recording.events(), recording.summary());
    assert!((1..TOO_MANY).contains(&counted(&events)));
    assert_eq!((summary.overlaps, summary.unknown_frees), (0, 0), "the trace ends where the disk was full");
    assert_eq!(std::fs::read_dir(disk.0.path()).unwrap().count(), 0, "the spool is gone");
}

#[test]
fn real_programs_record_without_an_overlap() {
    if !can_record() {
        return;
    }
    let threads = "import threading\n\
        t = [threading.Thread(target=lambda: [str(i) * 9 for i in range(3000)]) for _ in range(16)]\n\
        [x.start() for x in t]\n[x.join() for x in t]";
    let programs: [(&[&str], u64); 4] = [
        (&["sh", "-c", "ls / | wc -l; (exec ls /)"], 2),
        (&["python3", "-c", threads], 16),
        (&["git", "--version"], 1),
        (&["cargo", "metadata", "--format-version", "1", "--no-deps"], 1),
    ];
    for (words, threads) in programs {
        if Command::new(words[0]).arg("--help").output().is_err() {
            eprintln!("skipped: no {} here", words[0]);
            continue;
        }
        let mut recording = Recording::of(words);
        let output = recording.command.env("PYTHONMALLOC", "malloc").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        let summary = recording.summary();
        assert_eq!(summary.overlaps, 0, "{words:?}");
        assert!(u64::from(summary.threads) >= threads && summary.allocs > 0, "{words:?}: {summary:?}");
    }
}

#[test]
fn many_short_processes_end_one_after_the_other() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of_known("short processes");
    let output = recording.run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (events, summary, report) = (recording.events(), recording.summary(), recording.report());
    assert_eq!(counted(phase(&events)), PROCESSES);
    assert_eq!((&report["processes"], &report["images"]), (&(PROCESSES + 1).into(), &(PROCESSES + 1).into()));
    assert_eq!((summary.overlaps, summary.unknown_frees), (0, 0));
    let bulk = events.iter().filter(|event| matches!(event.op, Op::Free { kind: FreeKind::Bulk, .. })).count();
    assert!(bulk >= PROCESSES, "their blocks ended with them: {bulk}");
}

#[test]
fn a_program_that_a_child_outlives_is_recorded_to_its_own_end() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of_known("outlived");
    let output = recording.run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(counted(&recording.events()) >= MANY);
    let summary = recording.summary();
    assert_eq!((summary.overlaps, summary.unknown_frees), (0, 0));
    assert_eq!(recording.report()["processes"], 2);
}

#[test]
fn a_stamp_that_a_killed_thread_took_with_it_costs_no_other_record() {
    if !can_record() {
        return;
    }
    let mut recording = Recording::of_known("stalled");
    let output = recording.run();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(counted(&recording.events()), 2 * MANY);
    assert_eq!(recording.summary().overlaps, 0);
}
