//! The same mistakes under `DebugAllocator`, Zig's, valgrind, AddressSanitizer and glibc: who finds which, and at what cost.
//!
//! ```text
//! TERRACE_MISTAKES=all cargo test --release -p terrace-tests --test mistakes -- --nocapture     prints the table of docs/debug.md
//! TERRACE_MISTAKES=costs …                                          its last row alone
//! TERRACE_ZIG=path-of-zig …                                         with Zig's column, where zig is not in PATH
//! ```
//!
//! Each mistake is made in a process of its own: ours by this test, started again, the others' by `mistakes/mistakes.c` and
//! `mistakes/mistakes.zig`. A tool that the machine lacks is named, and has no column. Our columns are compared with the page; without the
//! variable they are all that is looked at.

use std::{
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio, exit},
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use terrace::{
    Alignment, Allocator, DebugAllocator, DebugConfig, PageAllocator, SmpAllocator, ThreadSlots, debug::Report,
};

const WORD: Alignment = Alignment::of::<u64>();
const WHICH: &str = "MISTAKE";
const HOW: &str = "TERRACE_MISTAKE_CONFIG";
/// Our two configurations.
const OURS: [&str; 2] = ["ours", "ours, guard pages"];

/// What is wrong in a program; only some of it can be said in C, which knows no length and one allocator.
const MISTAKES: [(&str, bool); 25] = [
    ("leak", true),
    ("double free", true),
    ("double free, another between", true),
    ("double free, 1000 others between", true),
    ("double free by two threads", true),
    ("free of a pointer into a block", true),
    ("free of a foreign pointer", true),
    ("free to the wrong of two allocators", false),
    ("free with a wrong length", false),
    ("free with a wrong alignment", false),
    ("resize with a wrong length", false),
    ("realloc of a freed block", true),
    ("write 1 byte past the end, length 24", true),
    ("write 1 byte past the end, length 13", true),
    ("write past the end of 1 MiB", true),
    ("write 100 bytes past the end", true),
    ("write 1 byte before the start", true),
    ("write 12 bytes before the start", true),
    ("read past the end", true),
    ("read before the start", true),
    ("write after free", true),
    ("write after free, 1000 others between", true),
    ("read after free", true),
    ("write through a pointer from before a realloc", true),
    ("a decision on a byte never written", true),
];

static FOUND: AtomicUsize = AtomicUsize::new(0);

fn count(report: &Report) {
    println!("{report}");
    FOUND.fetch_add(1, Ordering::Relaxed);
}

/// What a mistake is made with: every method may be a mistake, and this process is there to make it.
#[derive(Clone, Copy)]
struct Hands<'a>(&'a (dyn Allocator + Sync));

impl Hands<'_> {
    fn block(self, bytes: usize) -> NonNull<[u8]> {
        let start = self.0.alloc(bytes.try_into().unwrap(), WORD).unwrap();
        // SAFETY: live, of so many bytes.
        unsafe { start.write_bytes(1, bytes) };
        NonNull::slice_from_raw_parts(start, bytes)
    }

    fn free(self, memory: NonNull<[u8]>) {
        // SAFETY: right, or the mistake.
        unsafe { self.0.free(memory, WORD) };
    }

    /// So many other blocks come and go.
    fn others(self, many: usize) {
        for _ in 0..many {
            self.free(self.block(24));
        }
    }

    fn free_elsewhere(self, memory: NonNull<[u8]>) {
        let address = memory.cast::<u8>().expose_provenance().get();
        thread::scope(|threads| {
            threads.spawn(|| {
                let start = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address)).unwrap();
                self.free(NonNull::slice_from_raw_parts(start, 24));
            });
        });
    }

    fn resize(self, memory: NonNull<[u8]>, len: usize) {
        // SAFETY: the mistake.
        unsafe { self.0.resize(memory, WORD, len.try_into().unwrap()) };
    }
}

fn write(memory: NonNull<[u8]>, offset: isize) {
    // SAFETY: the mistake.
    unsafe { memory.cast::<u8>().as_ptr().wrapping_offset(offset).write_volatile(2) };
}

fn read(memory: NonNull<[u8]>, offset: isize) -> u8 {
    // SAFETY: the mistake.
    unsafe { memory.cast::<u8>().as_ptr().wrapping_offset(offset).read_volatile() }
}

fn part(memory: NonNull<[u8]>, from: usize, len: usize) -> NonNull<[u8]> {
    // SAFETY: within the block.
    NonNull::slice_from_raw_parts(unsafe { memory.cast::<u8>().add(from) }, len)
}

/// A program with one mistake.
fn make(which: &str, hands: Hands) {
    let (one, other) = (hands.block(24), hands.block(24));
    if !wrong_call(which, hands, one) && !late_access(which, hands, one) {
        wrong_access(which, hands, one);
        hands.free(one);
    }
    hands.free(other);
}

/// Mistakes that are calls. `false`: it is none of these, and nothing has happened.
fn wrong_call(which: &str, hands: Hands, one: NonNull<[u8]>) -> bool {
    match which {
        "leak" => return true,
        "double free" => hands.free(one),
        "double free, another between" => [one, hands.block(24)].into_iter().for_each(|block| hands.free(block)),
        "double free, 1000 others between" => {
            hands.free(one);
            hands.others(1000);
        }
        "double free by two threads" => hands.free_elsewhere(one),
        "free of a pointer into a block" => hands.free(part(one, 8, 16)),
        "free of a foreign pointer" => hands.free(NonNull::from(&mut [0; 24])),
        "free to the wrong of two allocators" => {
            Hands(&DebugAllocator::with_handler(PageAllocator, DebugConfig::new(), count)).free(one);
        }
        "free with a wrong length" => {
            hands.free(part(one, 0, 20));
            return true;
        }
        "free with a wrong alignment" => {
            // SAFETY: the mistake.
            unsafe { hands.0.free(one, Alignment::ONE) };
            return true;
        }
        "resize with a wrong length" => hands.resize(part(one, 0, 20), 10),
        "realloc of a freed block" => {
            hands.free(one);
            hands.resize(one, 500);
            return true;
        }
        _ => return false,
    }
    hands.free(one);
    true
}

/// Accesses after the end. `false`: it is none of these, and nothing has happened.
fn late_access(which: &str, hands: Hands, one: NonNull<[u8]>) -> bool {
    let moved = hands.block(5000);
    let late = ["write after free, 1000 others between", "write after free", "read after free"].contains(&which);
    let stale = which == "write through a pointer from before a realloc";
    if late || stale {
        hands.free(one);
        hands.others(if which.contains("1000") { 1000 } else { 0 });
        if which.starts_with("read") { _ = black_box(read(one, 3)) } else { write(one, 3) }
    }
    hands.free(moved);
    late || stale
}

/// Accesses beside a live block.
fn wrong_access(which: &str, hands: Hands, one: NonNull<[u8]>) {
    let past = |bytes: usize| {
        let block = hands.block(bytes);
        write(block, bytes as isize);
        hands.free(block);
    };
    match which {
        "write 1 byte past the end, length 24" => write(one, 24),
        "write 1 byte past the end, length 13" => past(13),
        "write past the end of 1 MiB" => past(1 << 20),
        "write 100 bytes past the end" => write(one, 24 + 100),
        "write 1 byte before the start" => write(one, -1),
        "write 12 bytes before the start" => write(one, -12),
        "read past the end" => _ = black_box(read(one, 24)),
        "read before the start" => _ = black_box(read(one, -1)),
        "a decision on a byte never written" => {
            let start = hands.0.alloc(24.try_into().unwrap(), WORD).unwrap();
            let fresh = NonNull::slice_from_raw_parts(start, 24);
            _ = black_box(read(fresh, 5) > 3);
            hands.free(fresh);
        }
        _ => {}
    }
}

/// A thousand live blocks, one of which goes and comes at a time; the C and Zig programs do the same.
fn work(hands: Hands) {
    let mut live: Vec<Option<NonNull<[u8]>>> = vec![None; 1000];
    let mut random = 1u32;
    for _ in 0..300_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (at, bytes) = ((random >> 8) as usize % 1000, 16 + (random >> 20) as usize % 500);
        if let Some(old) = live[at].take() {
            hands.free(old);
        }
        let start = hands.0.alloc(bytes.try_into().unwrap(), WORD).unwrap();
        // SAFETY: live, of 16 bytes at least.
        unsafe { start.write_bytes(7, 16) };
        live[at] = Some(NonNull::slice_from_raw_parts(start, bytes));
    }
    live.into_iter().flatten().for_each(|block| hands.free(block));
}

/// This process is to make one mistake: exits with 3 where it was found.
fn be_the_program(which: &str, how: &str) {
    let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    let paged = DebugConfig { guard_pages: true, ..DebugConfig::new() };
    let run = |allocator: &(dyn Allocator + Sync)| match which {
        "work" => work(Hands(allocator)),
        which => make(which, Hands(allocator)),
    };
    match how {
        "without" => run(&smp),
        "ours" => run(&DebugAllocator::with_handler(smp, DebugConfig::new(), count)),
        _ => run(&DebugAllocator::with_pages(PageAllocator, paged, count)),
    }
    exit(if FOUND.load(Ordering::Relaxed) > 0 { 3 } else { 0 });
}

/// A way to run the programs.
struct Tool {
    name: &'static str,
    /// The command, up to the mistake's name; the variables that it needs.
    command: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// Whether it knows lengths, alignments and several allocators.
    speaks_all: bool,
    /// A command that does the work without the tool.
    without: (Vec<String>, Vec<(&'static str, String)>),
}

/// How a program ended: `finds` (a report), `faults` (by the hardware), or `-`.
fn ended(command: &[String], variables: &[(&'static str, String)], which: &str) -> &'static str {
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]).envs(variables.iter().map(|(name, value)| (name, value)));
    // As an argument for C, in a variable for the others, whose arguments are the test's.
    if !variables.iter().any(|(name, _)| *name == HOW) {
        child.arg(which);
    }
    let output = child.env(WHICH, which).stdin(Stdio::null()).output().unwrap();
    let fault = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(libc::SIGSEGV);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told =
        ["ERROR", "error(", "free(): ", "malloc", "realloc(): ", "panic:"].iter().any(|word| said.contains(word));
    match (output.status.success(), fault && !told) {
        (_, true) => "faults",
        (true, _) if !said.contains("error(") => "-",
        _ => "finds",
    }
}

/// Processor time of the work, the kernel's share included: nearly the same on a busy machine.
fn seconds(command: &[String], variables: &[(&'static str, String)]) -> f64 {
    let of_children = || {
        // SAFETY: a value that is all zero is one.
        let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
        // SAFETY: a place for the answer.
        assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) }, 0);
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    };
    let once = || {
        let before = of_children();
        ended(command, variables, "work");
        of_children() - before
    };
    let mut all = [once(), once(), once()];
    all.sort_by(f64::total_cmp);
    all[1]
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Builds a program; `None`: the machine has no such compiler, or it failed.
fn built(command: &[&str], program: &Path) -> Option<String> {
    let status = Command::new(command[0]).args(&command[1..]).stderr(Stdio::null()).stdout(Stdio::null()).status();
    let program = program.to_str()?;
    status.is_ok_and(|status| status.success()).then(|| program.to_owned())
}

fn ours() -> Vec<Tool> {
    let this = env::current_exe().unwrap();
    let command = strings(&[this.to_str().unwrap(), "the_program_with_a_mistake", "--exact", "--nocapture"]);
    let without = (command.clone(), vec![(HOW, "without".to_owned())]);
    let tool = |name: &'static str| Tool {
        name,
        command: command.clone(),
        variables: vec![(HOW, name.to_owned())],
        speaks_all: true,
        without: without.clone(),
    };
    OURS.map(tool).into()
}

/// The others that this machine has; the rest is named.
fn others() -> Vec<Tool> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("mistakes");
    let (c, zig) = (sources.join("mistakes.c"), sources.join("mistakes.zig"));
    let (c, zig) = (c.to_str().unwrap(), zig.to_str().unwrap());
    let at = |name: &str| folder.join(name);
    let mut tools = Vec::new();
    let compiler = env::var("TERRACE_ZIG").unwrap_or("zig".into());
    let emit = format!("-femit-bin={}", at("mistakes_zig").display());
    let cache = folder.join("zig");
    let cache = cache.to_str().unwrap();
    let zig = [&compiler, "build-exe", "-lc", "--cache-dir", cache, "--global-cache-dir", cache, &emit, zig];
    match built(&zig, &at("mistakes_zig")) {
        Some(program) => tools.push(Tool {
            name: "Zig",
            command: vec![program.clone()],
            variables: vec![(HOW, "debug".into())],
            speaks_all: true,
            without: (vec![program], vec![(HOW, "without".into())]),
        }),
        None => eprintln!("no zig ({compiler}): no column of its DebugAllocator"),
    }
    let out = at("mistakes_c");
    let plain = built(&["cc", "-O0", "-g", "-pthread", "-o", out.to_str().unwrap(), c], &out);
    let out = at("mistakes_asan");
    let asan = built(&["cc", "-fsanitize=address", "-O0", "-g", "-pthread", "-o", out.to_str().unwrap(), c], &out);
    let Some(plain) = plain else {
        eprintln!("no cc: no columns of valgrind, ASan and glibc");
        return tools;
    };
    let mut add = |name, command: &[&str], variables: &[(&'static str, &str)]| {
        let command = strings(command);
        let variables = variables.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        tools.push(Tool { name, command, variables, speaks_all: false, without: (vec![plain.clone()], Vec::new()) });
    };
    match Command::new("valgrind").arg("--version").stdout(Stdio::null()).status() {
        Ok(_) => add("valgrind", &["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", &plain], &[]),
        Err(_) => eprintln!("no valgrind"),
    }
    match &asan {
        Some(asan) => add("ASan", &[asan], &[]),
        None => eprintln!("no AddressSanitizer"),
    }
    add("glibc", &[&plain], &[]);
    add("glibc, MALLOC_CHECK_", &[&plain], &[("MALLOC_CHECK_", "3"), ("LD_PRELOAD", "libc_malloc_debug.so.0")]);
    tools
}

/// Not a test: what the tools look at.
#[test]
fn the_program_with_a_mistake() {
    if let (Ok(which), Ok(how)) = (env::var(WHICH), env::var(HOW)) {
        be_the_program(&which, &how);
    }
}

#[test]
fn who_finds_which_mistake() {
    let all = env::var_os("TERRACE_MISTAKES").is_some();
    let mut tools = ours();
    if all {
        tools.extend(others());
    }
    let mut table =
        format!("| mistake | {} |\n|---|", tools.iter().map(|tool| tool.name).collect::<Vec<_>>().join(" | "));
    table += &"---|".repeat(tools.len());
    let mut own_rows = Vec::new();
    let rows = if env::var_os("TERRACE_MISTAKES").is_some_and(|what| what == "costs") { &[] } else { &MISTAKES[..] };
    for &(which, in_c) in rows {
        let cell = |tool: &Tool| match tool.speaks_all || in_c {
            true => ended(&tool.command, &tool.variables, which),
            false => "",
        };
        let cells: Vec<_> = tools.iter().map(cell).collect();
        own_rows.push(format!("| {which} | {} | {} |", cells[0], cells[1]));
        table += &format!("\n| {which} | {} |", cells.join(" | "));
    }
    for tool in &tools {
        assert_eq!(ended(&tool.command, &tool.variables, "none"), "-", "{}: a correct program", tool.name);
    }
    if all {
        let cost = |tool: &Tool| {
            let (with, without) = (seconds(&tool.command, &tool.variables), seconds(&tool.without.0, &tool.without.1));
            format!("{:.1}×", with / without)
        };
        table += &format!("\n| time of the same work | {} |", tools.iter().map(cost).collect::<Vec<_>>().join(" | "));
    }
    println!("{table}");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/debug.md")).unwrap();
    for row in own_rows {
        let row = row.trim_end_matches('|').trim_end();
        assert!(page.lines().any(|line| line.starts_with(row)), "docs/debug.md has no row\n{row} …");
    }
}
