//! Programs to record: this test binary, started again with [`VARIABLE`] set.
//!
//! What a program does between [`phase`]'s marks is known to the call; around it the test harness and
//! the C library allocate as they like.

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Names the program to be.
pub const VARIABLE: &str = "TERRACE_TEST_PROGRAM";
/// The lengths of the blocks that mark a phase's beginning and end; nobody else asks for such.
pub const BEGIN: u64 = 777_001;
pub const END: u64 = 777_002;
/// The length of the blocks that are counted.
pub const COUNTED: u64 = 5_003;
/// How many of them each of the programs makes, or each of its threads.
pub const MANY: usize = 5_000;
/// How many one makes to fill a small disk: 24 MB of records.
pub const TOO_MANY: usize = 600_000;
pub const THREADS: usize = 16;
/// How many processes one of the programs starts, one after the other.
pub const PROCESSES: usize = 200;

/// Becomes the program that the variable names, and ends as it ends.
pub fn become_one() {
    let Some(name) = std::env::var_os(VARIABLE) else { return };
    match name.to_str() {
        Some("each call once") => phase(each_call_once),
        Some("threads") => phase(hand_blocks_around),
        Some("reallocs") => phase(move_blocks_at_the_same_time),
        Some("children") => phase(children),
        Some("killed") => killed_after_many(libc::SIGKILL),
        Some("aborted") => killed_after_many(libc::SIGABRT),
        Some("killed busy") => killed_while_threads_are_busy(),
        Some("exits busy") => exits_while_threads_are_busy(),
        Some("many") => many(),
        Some("too many") => (0..TOO_MANY).for_each(|_| free(malloc(COUNTED as usize))),
        Some("waits") => wait_for_a_signal(),
        Some("short processes") => phase(short_processes),
        Some("outlived") => outlived_by_a_child(),
        Some("stalled") => a_stamp_is_lost(),
        other => panic!("no such program: {other:?}"),
    }
    exit(0);
}

fn exit(code: i32) -> ! {
    // SAFETY: takes a number only.
    unsafe { libc::_exit(code) }
}

/// Runs `work` between two marks.
fn phase(work: fn()) {
    free(malloc(BEGIN as usize));
    work();
    free(malloc(END as usize));
}

fn malloc(len: usize) -> *mut c_void {
    // SAFETY: any length may be asked for. (And the compiler must not know what becomes of the block.)
    black_box(unsafe { libc::malloc(black_box(len)) })
}

fn free(block: *mut c_void) {
    // SAFETY: the programs here free each block once.
    unsafe { libc::free(black_box(block)) }
}

fn realloc(block: *mut c_void, len: usize) -> *mut c_void {
    // SAFETY: the programs here use the result only.
    black_box(unsafe { libc::realloc(black_box(block), black_box(len)) })
}

// SAFETY: declared as the C library has them.
unsafe extern "C" {
    fn valloc(len: usize) -> *mut c_void;
    fn pvalloc(len: usize) -> *mut c_void;
    fn reallocarray(block: *mut c_void, count: usize, len: usize) -> *mut c_void;
}

/// The order and the figures are those that `each_call_is_recorded_as_it_was_made` expects.
fn each_call_once() {
    let a = malloc(100);
    // SAFETY: any lengths may be asked for.
    let b = black_box(unsafe { libc::calloc(3, 50) });
    let c = realloc(null_mut(), 7);
    // SAFETY: a power of two.
    let d = black_box(unsafe { libc::memalign(64, 10) });
    // SAFETY: a power of two, and a length that is a multiple of it.
    let e = black_box(unsafe { libc::aligned_alloc(32, 64) });
    let mut f = null_mut();
    // SAFETY: `f` is writable.
    assert_eq!(unsafe { libc::posix_memalign(&raw mut f, 4096, 11) }, 0);
    // SAFETY: any length may be asked for.
    let g = black_box(unsafe { valloc(12) });
    // SAFETY: as above.
    let h = black_box(unsafe { pvalloc(13) });
    // SAFETY: a null pointer stands for a new block.
    let i = black_box(unsafe { reallocarray(null_mut(), 4, 5) });
    let j = malloc(0);
    refused();
    let a = realloc(a, 1_000_000); // moves: no block so small can grow so far
    assert!(!a.is_null());
    assert!(realloc(b, 0).is_null(), "glibc frees");
    // SAFETY: a string that ends in 0; the C library allocates the copy.
    let k = black_box(unsafe { libc::strdup(c"four".as_ptr()) });
    free(null_mut());
    [a, c, d, e, f, g, h, i, j, k.cast()].into_iter().for_each(free);
}

/// Requests that are refused, with the results and error numbers that they have without the recorder.
fn refused() {
    let mut untouched = null_mut();
    // SAFETY: `untouched` is writable; 3 is no alignment, which is an error and nothing else.
    assert_eq!(unsafe { libc::posix_memalign(&raw mut untouched, 3, 8) }, libc::EINVAL);
    assert!(untouched.is_null());
    assert!(malloc(usize::MAX - 8).is_null());
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
    let kept = malloc(9);
    // SAFETY: a product that overflows is refused and leaves the block.
    assert!(black_box(unsafe { reallocarray(kept, usize::MAX / 2, 3) }).is_null());
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
    // SAFETY: as above.
    assert!(black_box(unsafe { libc::calloc(usize::MAX / 2, 3) }).is_null());
    free(kept);
}

/// Each thread makes blocks, and frees those of its neighbour.
fn hand_blocks_around() {
    let tables: Vec<Mutex<Vec<usize>>> = (0..THREADS).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (own, next) = (&tables[number], &tables[(number + 1) % THREADS]);
            scope.spawn(move || {
                for _ in 0..MANY {
                    own.lock().unwrap().push(malloc(COUNTED as usize).expose_provenance());
                    let foreign = next.lock().unwrap().pop();
                    foreign.into_iter().for_each(|block| free(std::ptr::with_exposed_provenance_mut(block)));
                }
            });
        }
    });
    for block in tables.into_iter().flat_map(|table| table.into_inner().unwrap()) {
        free(std::ptr::with_exposed_provenance_mut(block));
    }
}

/// Blocks that move all the time, so that an address which one thread's realloc leaves is soon another's.
fn move_blocks_at_the_same_time() {
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || {
                let mut blocks = [null_mut(); 8];
                for step in 0..MANY / 2 {
                    let block = &mut blocks[step % 8];
                    *block = realloc(*block, 16 + (step * 7 + number) % 40 * 32);
                }
                blocks.into_iter().for_each(free);
            });
        }
    });
}

/// A fork, a fork by a bare system call, a child that execs, and one by way of `posix_spawn`.
fn children() {
    let inherited = malloc(64);
    // SAFETY: the child only allocates, which glibc allows after a fork, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        free(inherited);
        malloc(COUNTED as usize);
        exit(3);
    }
    assert_eq!(exit_code_of(child), 3);
    // SAFETY: as a fork, but the C library knows nothing of it; the child only allocates and ends.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as i32;
    if child == 0 {
        malloc(COUNTED as usize);
        exit(4);
    }
    assert_eq!(exit_code_of(child), 4);
    // SAFETY: as above; the child becomes another program.
    let child = unsafe { libc::fork() };
    if child == 0 {
        malloc(COUNTED as usize);
        let arguments = [c"sh".as_ptr(), c"-c".as_ptr(), c"exit 5".as_ptr(), std::ptr::null()];
        // SAFETY: a list of strings that ends in a null pointer.
        unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
        exit(1);
    }
    assert_eq!(exit_code_of(child), 5);
    free(inherited);
    let status = std::process::Command::new("sh").args(["-c", "exit 6"]).status().unwrap();
    assert_eq!(status.code(), Some(6));
}

fn exit_code_of(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    libc::WEXITSTATUS(status)
}

fn many() {
    for _ in 0..MANY {
        malloc(COUNTED as usize);
    }
}

fn killed_after_many(signal: i32) {
    many();
    // SAFETY: takes a number only.
    unsafe { libc::raise(signal) };
    unreachable!("both signals end a process");
}

/// Starts threads that never end, and returns when all of them are under way.
fn keep_busy() {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..THREADS {
        std::thread::spawn(|| {
            let mut block = malloc(24);
            for round in 0_u64.. {
                block = realloc(block, 40);
                free(malloc(COUNTED as usize));
                block = realloc(block, 2_000);
                std::thread::yield_now(); // so that all get their turn before there are too many events
                BUSY.fetch_add(usize::from(round == 100), Ordering::Relaxed);
            }
        });
    }
    while BUSY.load(Ordering::Relaxed) < THREADS {
        std::thread::yield_now();
    }
}

fn killed_while_threads_are_busy() {
    keep_busy();
    // SAFETY: takes a number only.
    unsafe { libc::raise(libc::SIGKILL) };
}

fn exits_while_threads_are_busy() {
    keep_busy();
    exit(9);
}

fn wait_for_a_signal() {
    many();
    println!("ready");
    std::thread::sleep(std::time::Duration::from_secs(600));
}

/// Each leaves a block behind.
fn short_processes() {
    for _ in 0..PROCESSES {
        // SAFETY: the child only allocates, which glibc allows after a fork, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            malloc(COUNTED as usize);
            exit(3);
        }
        assert_eq!(exit_code_of(child), 3);
    }
}

/// Ends while a child allocates, which goes on for as long as the recording lasts.
fn outlived_by_a_child() {
    let spool = std::env::var_os("TERRACE_SPOOL").unwrap();
    let mut ends = [0; 2];
    // SAFETY: there is room for both ends.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child uses no lock that a thread of the harness may hold.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: takes a number only. Should the recording not end, this does.
        unsafe { libc::alarm(120) };
        for file in 0..3 {
            // SAFETY: nothing here reads or writes these files any more. (Who waits for their end shall not wait for the child's.)
            unsafe { libc::close(file) };
        }
        many();
        // SAFETY: one byte that is readable.
        unsafe { libc::write(ends[1], (&raw const ends).cast(), 1) };
        while std::path::Path::new(&spool).exists() {
            free(malloc(COUNTED as usize));
            std::thread::yield_now();
        }
        exit(0);
    }
    // SAFETY: one byte that is writable.
    assert_eq!(unsafe { libc::read(ends[0], (&raw mut ends).cast(), 1) }, 1);
}

/// Takes a stamp from the control page and writes no record with it, as a thread does that is killed
/// in between; the rest is recorded all the same.
fn a_stamp_is_lost() {
    many();
    let spool = std::env::var_os("TERRACE_SPOOL").unwrap();
    let page =
        std::fs::File::options().read(true).write(true).open(std::path::Path::new(&spool).join("control")).unwrap();
    let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, std::os::fd::AsRawFd::as_raw_fd(&page));
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let words = unsafe { libc::mmap(null_mut(), 4096, access, libc::MAP_SHARED, fd, 0) };
    assert_ne!(words, libc::MAP_FAILED);
    // SAFETY: the ninth word of the page is the stamps', which all use as an atomic.
    unsafe { AtomicUsize::from_ptr(words.cast::<usize>().wrapping_add(8)) }.fetch_add(1, Ordering::AcqRel);
    many();
}
