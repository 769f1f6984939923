//! This very program, started again with the library as its malloc: what threads, forks and limits do to it.
//!
//! ```text
//!   #[test] f ──▶ in_child("f")? ──no──▶ runs `preload --exact f` with LD_PRELOAD ──▶ #[test] f ──yes──▶ the body
//! ```
//!
//! Std's harness, and every `Vec` and `String` in it, are served by the library meanwhile.

mod common;

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    env,
    ffi::{CStr, c_int, c_void},
    hint::black_box,
    process::{self, Command},
    ptr, slice,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

const IN_CHILD: &str = "TERRACE_MALLOC_CHILD";

/// `true` in the child; in the parent `false`, after the child has passed.
fn in_child(test: &str) -> bool {
    if env::var_os(IN_CHILD).is_some() {
        assert!(is_preloaded(), "malloc is the library's");
        return true;
    }
    let mut child = Command::new(env::current_exe().expect("this program has a path"));
    child.args(["--exact", test, "--nocapture"]).env(IN_CHILD, "yes").env("RUST_BACKTRACE", "0");
    common::succeeds(common::preloaded(&mut child));
    false
}

fn is_preloaded() -> bool {
    // SAFETY: zeroes are one.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: an address, and a place that is writable.
    if unsafe { libc::dladdr(libc::malloc as *const c_void, &raw mut found) } == 0 || found.dli_fname.is_null() {
        return false;
    }
    // SAFETY: a name that ends in 0, for as long as the library is loaded.
    let file = unsafe { CStr::from_ptr(found.dli_fname) };
    file.to_string_lossy().contains("libterrace_malloc")
}

/// A block of malloc's, filled with a byte, which is looked at before it is freed.
struct Block {
    start: *mut u8,
    len: usize,
    byte: u8,
}

// SAFETY: a block is whoever's has it.
unsafe impl Send for Block {}

impl Block {
    fn new(len: usize, byte: u8) -> Option<Self> {
        // SAFETY: any length may be asked for.
        let start = unsafe { libc::malloc(len) }.cast::<u8>();
        if start.is_null() {
            return None;
        }
        // SAFETY: the block has `len` bytes.
        unsafe { start.write_bytes(byte, len) };
        Some(Self { start, len, byte })
    }

    fn is_whole(&self) -> bool {
        // SAFETY: written by `new`.
        unsafe { slice::from_raw_parts(self.start, self.len) }.iter().all(|&byte| byte == self.byte)
    }

    /// Whether it was whole: without a panic, for children that must not unwind.
    fn end(self) -> bool {
        let whole = self.is_whole();
        // SAFETY: live, and not used again.
        unsafe { libc::free(self.start.cast()) };
        whole
    }
}

/// Lengths of all kinds, from a number.
fn len_of(number: usize) -> usize {
    let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    match number % 16 {
        0 => random % 300_000,
        1..4 => random % 20_000,
        _ => random % 500,
    }
}

/// Allocates and frees `count` blocks, at most 50 at a time; whether all kept their bytes.
fn churn(seed: usize, count: usize) -> bool {
    let mut live = VecDeque::new();
    let mut whole = true;
    for number in seed..seed + count {
        let Some(block) = Block::new(len_of(number), number as u8) else { return false };
        live.push_back(block);
        if live.len() > 50 {
            whole &= live.pop_front().is_none_or(Block::end);
        }
    }
    end_all(live) && whole
}

/// Ends them all, and says whether all were whole.
fn end_all(blocks: impl IntoIterator<Item = Block>) -> bool {
    blocks.into_iter().map(Block::end).filter(|&whole| !whole).count() == 0
}

/// What the child of a fork returns, or how it ended: it has 30 seconds.
fn forked(work: impl FnOnce() -> bool) -> c_int {
    // SAFETY: the child goes on with this thread alone, in which malloc must serve it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: takes a number only.
        unsafe { libc::alarm(30) };
        let code = if work() { 0 } else { 1 };
        // SAFETY: takes a number only.
        unsafe { libc::_exit(code) };
    }
    let mut status = -1;
    // SAFETY: a child of ours, and a place that is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

#[test]
fn forks_in_the_midst_of_other_threads_calls_leave_the_child_a_working_malloc() {
    if !in_child("forks_in_the_midst_of_other_threads_calls_leave_the_child_a_working_malloc") {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert!(churn(thread << 20 | rounds, 100));
                    rounds += 100;
                }
            })
        })
        .collect();
    for round in 0..40 {
        let status = forked(|| {
            // Every tenth child has threads, and children, of its own.
            if round % 10 != 0 {
                return churn(round, 300);
            }
            let threads: Vec<_> = (0..20).map(|seed| thread::spawn(move || churn(seed << 10, 200))).collect();
            threads.into_iter().all(|thread| thread.join().is_ok_and(|whole| whole)) && forked(|| churn(7, 300)) == 0
        });
        assert_eq!(status, 0, "the child of round {round}");
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn many_threads_fork_at_once() {
    if !in_child("many_threads_fork_at_once") {
        return;
    }
    let threads: Vec<_> = (0..6)
        .map(|thread| thread::spawn(move || (0..15).all(|round| forked(|| churn(thread * 100 + round, 200)) == 0)))
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

/// Allocates when a thread's end drops it, and after that again: its destructor leaves another one behind.
struct Last(u32);

impl Drop for Last {
    fn drop(&mut self) {
        assert!(churn(self.0 as usize, 20));
        ENDED.fetch_add(1, Ordering::Relaxed);
    }
}

static ENDED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LAST: RefCell<Vec<Last>> = const { RefCell::new(Vec::new()) };
}

/// Of a pthread key: allocates in every round of destructors, so after the library's own has run too.
extern "C" fn key_ends(value: *mut c_void) {
    let rounds = value.addr() - 1;
    assert!(churn(rounds, 20));
    ENDED.fetch_add(1, Ordering::Relaxed);
    if rounds > 0 {
        let key = KEY.load(Ordering::Relaxed) as libc::pthread_key_t;
        // SAFETY: a key that exists; the value is a number.
        unsafe { libc::pthread_setspecific(key, ptr::without_provenance(rounds)) };
    }
}

static KEY: AtomicUsize = AtomicUsize::new(0);

#[test]
fn destructors_of_thread_locals_allocate_and_free_to_the_very_end() {
    if !in_child("destructors_of_thread_locals_allocate_and_free_to_the_very_end") {
        return;
    }
    let mut key = 0;
    // The 33rd key and later ones cost `pthread_setspecific` a calloc.
    for _ in 0..40 {
        // SAFETY: `key` is writable.
        assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(key_ends)) }, 0);
    }
    KEY.store(key as usize, Ordering::Relaxed);
    let threads: Vec<_> = (0..50u32)
        .map(|number| {
            thread::spawn(move || {
                // SAFETY: a key that exists; the value is a number.
                unsafe { libc::pthread_setspecific(key, ptr::without_provenance(4)) };
                LAST.with_borrow_mut(|last| last.extend((0..3).map(|n| Last(number * 3 + n))));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(ENDED.load(Ordering::Relaxed) >= 50 * 3 + 50 * 4, "{} destructors", ENDED.load(Ordering::Relaxed));
}

#[test]
fn more_threads_than_slots_share_without_harm() {
    if !in_child("more_threads_than_slots_share_without_harm") {
        return;
    }
    let all_run = Arc::new(Barrier::new(300));
    let threads: Vec<_> = (0..300)
        .map(|number| {
            let all_run = Arc::clone(&all_run);
            thread::Builder::new().stack_size(128 << 10).spawn(move || {
                all_run.wait();
                churn(number << 8, 200)
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.unwrap().join().unwrap()));
}

#[test]
fn blocks_of_dead_threads_live_on_and_are_freed_by_others() {
    if !in_child("blocks_of_dead_threads_live_on_and_are_freed_by_others") {
        return;
    }
    let (tell, told) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let told = Arc::clone(&told);
            thread::spawn(move || {
                let next = || told.lock().unwrap().recv();
                end_all(std::iter::from_fn(|| next().ok()))
            })
        })
        .collect();
    for generation in 0..40 {
        let producers: Vec<_> = (0..4)
            .map(|thread| {
                let tell = tell.clone();
                thread::spawn(move || {
                    for number in 0..150 {
                        let number = generation << 12 | thread << 10 | number;
                        tell.send(Block::new(len_of(number), number as u8).unwrap()).unwrap();
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|thread| thread.join().unwrap());
    }
    drop(tell);
    assert!(consumers.into_iter().all(|thread| thread.join().unwrap()));
}

/// Lets the address space grow by so many bytes more than it has.
fn limit_address_space(more: u64) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().next().unwrap().parse().unwrap();
    // SAFETY: only reads its argument.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let limit = libc::rlimit { rlim_cur: pages * page + more, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is readable.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

#[test]
fn at_the_limit_of_the_address_space_malloc_says_so_and_keeps_every_block() {
    if !in_child("at_the_limit_of_the_address_space_malloc_says_so_and_keeps_every_block") {
        return;
    }
    for len in [24, 700, 9_000, 50_000, 1 << 20] {
        let status = forked(|| {
            // The pages of both are not touched before they are used.
            let mut blocks: Vec<Block> = Vec::with_capacity(4 << 20);
            let mut again: Vec<Block> = Vec::with_capacity(4 << 20);
            limit_address_space(48 << 20);
            let refused = loop {
                match Block::new(len, blocks.len() as u8) {
                    Some(block) => blocks.push(block),
                    None => break std::io::Error::last_os_error().raw_os_error(),
                }
            };
            let first = blocks[0].start;
            // SAFETY: live, and still so where it is refused.
            let grown = unsafe { libc::realloc(first.cast(), 64 << 20) };
            let kept = blocks.iter().all(Block::is_whole);
            // What is freed can be had again, although nothing comes from the system any more.
            let half = blocks.len() / 2;
            let many = (blocks.len() - half) * 9 / 10;
            let freed = end_all(blocks.drain(half..));
            again.extend((0..many).map_while(|number| Block::new(len, number as u8)));
            let served = again.len() == many;
            let enough = blocks.len() * len > 10 << 20;
            refused == Some(libc::ENOMEM) && grown.is_null() && kept && freed && served && enough
        });
        assert_eq!(status, 0, "{len} bytes");
    }
}

#[test]
fn a_process_that_may_have_no_more_memory_at_all_still_frees_and_reuses() {
    if !in_child("a_process_that_may_have_no_more_memory_at_all_still_frees_and_reuses") {
        return;
    }
    let mut words: HashMap<usize, String> = (0..10_000).map(|n| (n, format!("word {n}"))).collect();
    let status = forked(|| {
        limit_address_space(0);
        for round in 0..50 {
            for n in 0..500 {
                let Some(word) = words.remove(&n) else { return false };
                words.insert(n, word.replace("word", if round % 2 == 0 { "term" } else { "word" }));
            }
        }
        let whole = words.len() == 10_000 && words.iter().all(|(n, word)| word.ends_with(&n.to_string()));
        // Hidden, or the compiler, which knows malloc, takes it for granted.
        // SAFETY: any length may be asked for.
        whole && black_box(unsafe { libc::malloc(64 << 20) }).is_null()
    });
    assert_eq!(status, 0);
}

#[test]
fn a_program_in_cxx_gets_bad_alloc_its_new_handler_and_null_from_nothrow() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let (source, program) = (format!("{folder}/operators.cc"), format!("{folder}/operators"));
    std::fs::write(&source, include_str!("operators.cc")).unwrap();
    let compiled = Command::new("c++").args(["-std=c++17", "-O1", "-fno-builtin", "-o", &program, &source]).status();
    if !compiled.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no compiler of C++17 here");
        return;
    }
    for preload in [false, true] {
        let mut command = Command::new(&program);
        if preload {
            common::preloaded(&mut command);
        }
        let output = common::succeeds(&mut command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            said,
            "bad_alloc\nhandler 3 bad_alloc\nnothrow null\nhandler 3 nothrow null\naligned 256\nlists 100000\n"
        );
    }
}

#[test]
fn a_program_that_ends_by_exit_in_the_midst_of_threads_does_not_hang() {
    if !in_child("a_program_that_ends_by_exit_in_the_midst_of_threads_does_not_hang") {
        return;
    }
    for _ in 0..4 {
        thread::spawn(|| while churn(1, 1000) {});
    }
    assert!(churn(5, 2000));
    process::exit(0);
}
