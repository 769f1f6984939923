//! What all threads of a process share: the control page, the chunks' files, and what threads left over.
//!
//! - **K1** `CONTROL` is null, or the mapped control page for as long as the process lives.
//! - **K2** `PROCESS` is null, or one page that the kernel zeroes in a forked child, by whatever call
//!   it was forked. So a child finds itself without image number, with nothing left over and with the
//!   lock free, and begins anew; no fork handler could promise that for a bare `clone`.
//!   (`vfork` shares the parent's memory, and what the child does then is the parent's rightly.)
//! - **K3** `LOCK` guards `left`. Whoever holds it is busy (P2), so no signal's handler waits for it.
//! - **K4** What goes wrong stops the recording for good and never disturbs the program: the first
//!   error is kept in the control page with a stamp of its own, and the lab cuts the trace there. No record
//!   has that stamp, so the lab cannot be past it before it sees the error.

use core::cell::{Cell, UnsafeCell};
use core::ffi::{CStr, c_int, c_void};
use core::hint::spin_loop;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::os;
use super::path::Path;
use super::pen::Pen;
use super::spool::{CHUNK_MAGIC, HEADER_WORDS, control};

const PROCESS_BYTES: usize = 4096;
const LEFT_OVER: usize = (PROCESS_BYTES - 32) / size_of::<Chunk>();

/// A chunk's length in words for a thread that filled `filled` chunks before: from 64 KiB, for
/// short-lived threads must not reserve much, to 8 MiB, for the kernel makes and fills one large file
/// in half the time of eight small ones.
pub const fn chunk_words(filled: u32) -> usize {
    let doublings = if filled < 4 { 2 * filled } else { 7 };
    (64 * 1024 / 8) << doublings
}

/// The chunk of a thread that allocates after it was seen to end: it will hardly write twice.
pub const LATE_CHUNK_WORDS: usize = 4096 / 8;

/// A part of a mapped chunk from `used` on.
#[derive(Clone, Copy)]
pub struct Chunk {
    start: *mut u64,
    used: u32,
    words: u32,
}

impl Chunk {
    /// Where the next record goes.
    pub fn cursor(self) -> *mut u64 {
        self.start.wrapping_add(self.used as usize)
    }

    /// The first place where `room` words would no longer fit.
    pub fn limit(self, room: usize) -> *mut u64 {
        self.start.wrapping_add((self.words as usize + 1).saturating_sub(room))
    }

    /// What is left from `cursor` on.
    pub fn from(self, cursor: *mut u64) -> Self {
        let used = (cursor.addr() - self.start.addr()) / 8;
        Self { used: used as u32, ..self }
    }

    /// # Safety
    /// Nobody uses the chunk any more.
    pub unsafe fn unmap(self) {
        // SAFETY: the whole mapping that `new_chunk` made; the caller's promise.
        unsafe { os::unmap(self.start, self.words as usize * 8) };
    }
}

/// The page of K2.
#[repr(C)]
struct Process {
    image: AtomicU32,
    threads: AtomicU32,
    /// The process's id in its namespace, and that namespace's number; both 0 until the first image is numbered.
    process: AtomicU64,
    namespace: AtomicU64,
    lock: AtomicBool,
    count: Cell<u32>,
    left: UnsafeCell<[Chunk; LEFT_OVER]>,
}

const _: () = assert!(size_of::<Process>() <= PROCESS_BYTES);

static CONTROL: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
static PROCESS: AtomicPtr<Process> = AtomicPtr::new(null_mut());
static SPOOL: Path = Path::new();
static END_KEY: AtomicU32 = AtomicU32::new(u32::MAX);
static OPEN: AtomicBool = AtomicBool::new(false);

/// A word of the control page. Called only when the spool is open.
#[inline(always)]
fn word(offset: usize) -> &'static AtomicU64 {
    // SAFETY: by K1 mapped, and all offsets are below `control::WORDS`.
    let word = unsafe { CONTROL.load(Ordering::Relaxed).add(offset) };
    // SAFETY: mapped for good and only ever used as atomics.
    unsafe { &*word }
}

/// The process's page. Called only when the spool is open.
#[inline(always)]
fn own() -> &'static Process {
    // SAFETY: by K2 mapped for good; all zero is a valid `Process`.
    unsafe { &*PROCESS.load(Ordering::Relaxed) }
}

/// Opens the spool at `directory`. Returns whether there is something to record into.
pub fn open(directory: &CStr) -> bool {
    if !SPOOL.set(directory) {
        return false;
    }
    let Ok(page) = SPOOL.with(c"/control", None, |path| os::map_existing(path, control::WORDS * 8)) else {
        return false;
    };
    CONTROL.store(page.as_ptr().cast(), Ordering::Release);
    if word(0).load(Ordering::Relaxed) != control::MAGIC {
        return false;
    }
    word(control::LOADED).fetch_add(1, Ordering::Relaxed);
    let Some(process) = os::page_wiped_on_fork(PROCESS_BYTES) else {
        stop(os::errno());
        return false;
    };
    PROCESS.store(process.as_ptr().cast(), Ordering::Release);
    know_oneself();
    if let Some(key) = os::thread_end_key(thread_ends) {
        END_KEY.store(key, Ordering::Relaxed);
    }
    OPEN.store(true, Ordering::Release);
    true
}

/// Whether records can be written.
pub fn is_open() -> bool {
    OPEN.load(Ordering::Acquire)
}

/// Keeps the first error's place and number, and ends recording (K4).
fn stop(error: c_int) {
    OPEN.store(false, Ordering::Release);
    let place = (stamp() << 16) | u64::from(error.unsigned_abs() & 0xffff);
    // Somebody else's error may have come first; then that one counts.
    let first = |stop| if stop == 0 || place < stop { Some(place) } else { None };
    let _ = word(control::STOP).fetch_update(Ordering::Relaxed, Ordering::Relaxed, first);
}

/// The next stamp (S3).
#[inline(always)]
pub fn stamp() -> u64 {
    word(control::STAMP).fetch_add(1, Ordering::AcqRel)
}

/// This process's image number, 0 in a child that has none yet.
#[inline(always)]
pub fn image() -> u32 {
    own().image.load(Ordering::Relaxed)
}

/// Notes who this process is. Not left to [`new_chunk`]: there the caller may be a child by `vfork`, whose id is another.
fn know_oneself() {
    own().namespace.store(os::namespace(), Ordering::Relaxed);
    own().process.store(os::process(), Ordering::Relaxed);
}

/// This process's image number, taken now if need be. `None`: recording has stopped.
pub fn image_or_new() -> Option<u32> {
    if word(control::STOP).load(Ordering::Relaxed) != 0 {
        OPEN.store(false, Ordering::Release);
        return None;
    }
    let image = &own().image;
    if image.load(Ordering::Relaxed) == 0 {
        if own().process.load(Ordering::Relaxed) == 0 {
            know_oneself();
        }
        let new = word(control::IMAGES).fetch_add(1, Ordering::Relaxed) as u32 + 1;
        // Where another thread was first, its number holds and ours stays unused.
        let _ = image.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
    }
    Some(image.load(Ordering::Relaxed))
}

/// A number for a thread of this image: 0, 1, …
pub fn number_a_thread() -> u32 {
    own().threads.fetch_add(1, Ordering::Relaxed)
}

/// A new chunk of `words` for `image`. `None`: recording stops.
pub fn new_chunk(image: u32, words: usize) -> Option<Chunk> {
    let number = word(control::CHUNKS).fetch_add(1, Ordering::Relaxed) + 1;
    match SPOOL.with(c"/chunk-", Some(number), |path| os::map_new(path, words * 8)) {
        Ok(start) => {
            let Process { process, namespace, .. } = own();
            write_header(
                start,
                [CHUNK_MAGIC, u64::from(image), process.load(Ordering::Relaxed), namespace.load(Ordering::Relaxed)],
            );
            Some(Chunk { start: start.as_ptr(), used: HEADER_WORDS as u32, words: words as u32 })
        }
        Err(error) => {
            stop(error);
            None
        }
    }
}

fn write_header(start: NonNull<u64>, header: [u64; HEADER_WORDS]) {
    // SAFETY: a new mapping, larger than its header, page-aligned, that nobody else knows.
    unsafe { start.cast().write(header) };
}

/// A part of a chunk of this process whose thread has ended.
pub fn take_left_over() -> Option<Chunk> {
    locked(|process| {
        let count = process.count.get().checked_sub(1)?;
        process.count.set(count);
        // SAFETY: by K3 nobody else uses `left`.
        let left = unsafe { &*process.left.get() };
        left.get(count as usize).copied()
    })
}

/// Keeps the rest of a chunk for the next thread, if there is room to remember it.
pub fn leave_over(chunk: Chunk) {
    locked(|process| {
        let count = process.count.get();
        // SAFETY: by K3 nobody else uses `left`.
        let left = unsafe { &mut *process.left.get() };
        match left.get_mut(count as usize) {
            Some(place) => {
                *place = chunk;
                process.count.set(count + 1);
            }
            // SAFETY: the thread that had it has ended and nobody else will know it.
            None => unsafe { chunk.unmap() },
        }
    });
}

fn locked<T>(work: impl FnOnce(&Process) -> T) -> T {
    let process = own();
    while process.lock.swap(true, Ordering::Acquire) {
        spin_loop();
    }
    let result = work(process);
    process.lock.store(false, Ordering::Release);
    result
}

/// How often the C library runs the destructors of a thread's keys, at most.
const DESTRUCTOR_ROUNDS: usize = 4;

/// Asks for [`thread_ends`] at the calling thread's end.
pub fn watch_for_the_end() {
    os::set_thread_key(END_KEY.load(Ordering::Relaxed), DESTRUCTOR_ROUNDS);
}

/// The destructor of a thread's key. Others' destructors may still free, so it waits for the last round.
///
/// # Safety
/// Called by the C library with the key's value, which is a number.
unsafe extern "C" fn thread_ends(rounds: *mut c_void) {
    let Some(pen) = Pen::take() else { return };
    match rounds.addr() {
        0 | 1 => pen.end(),
        rounds => os::set_thread_key(END_KEY.load(Ordering::Relaxed), rounds - 1),
    }
}

/// Whether the lab asked for a calibration instead of a recording.
pub fn calibration_wanted() -> bool {
    word(control::CALIBRATE).load(Ordering::Relaxed) != 0
}

/// Writes a calibration's result: picoseconds for a call without and with the recorder.
pub fn set_calibration(plain: u64, recorded: u64) {
    word(control::PLAIN_PS).store(plain, Ordering::Relaxed);
    word(control::RECORDED_PS).store(recorded, Ordering::Relaxed);
}

/// Notes that the program defines `malloc` itself.
pub fn note_own_malloc() {
    word(control::OWN_MALLOC).fetch_add(1, Ordering::Relaxed);
}
