//! What is asked of the system: resident bytes, and words to and from the parent, none of it through `malloc`.

use std::{
    env,
    ffi::CStr,
    fs,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Resident bytes of this process that are no file's: the kernel's exact count, or where it has none the quick one.
///
/// All of them, those too that an allocator took before the work began; a process that allocates nothing has 0.2 MiB.
pub fn resident() -> usize {
    let mut buffer = [0; 4096];
    if let Some(kib) = number_after(read_file(c"/proc/self/smaps_rollup", &mut buffer), b"Anonymous:") {
        return kib * 1024;
    }
    number_after(read_file(c"/proc/self/status", &mut buffer), b"RssAnon:").unwrap_or(0) * 1024
}

fn read_file<'b>(path: &CStr, buffer: &'b mut [u8]) -> &'b [u8] {
    // SAFETY: the path ends with a zero.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return &[];
    }
    // SAFETY: the buffer is ours and as long as said.
    let read = unsafe { libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()) };
    // SAFETY: opened above, used no more.
    unsafe { libc::close(file) };
    &buffer[..usize::try_from(read).unwrap_or(0)]
}

fn number_after(text: &[u8], name: &[u8]) -> Option<usize> {
    let at = text.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = text[at..].iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0) * 10 + usize::from(digit - b'0'));
    }
    number
}

/// Ends with a complaint unless the four calls lie in the library that was preloaded.
pub fn probe() {
    let wanted = env::var_os("LD_PRELOAD").and_then(|path| fs::canonicalize(path).ok());
    let calls = [
        ("malloc", libc::malloc as *const libc::c_void),
        ("calloc", libc::calloc as *const libc::c_void),
        ("realloc", libc::realloc as *const libc::c_void),
        ("free", libc::free as *const libc::c_void),
    ];
    for (name, call) in calls {
        let found = file_of(call);
        if found != wanted {
            eprintln!("does not serve {name}, which lies in {}", found.unwrap_or_default().display());
            std::process::exit(5);
        }
    }
}

/// Nanoseconds that this process had a processor, all its threads together.
pub fn processor_time() -> u64 {
    time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Nanoseconds that passed.
pub fn clock_time() -> u64 {
    time(libc::CLOCK_MONOTONIC)
}

fn time(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours and lives through the call.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Tells a parent that traces this process where it is.
pub fn signal() {
    // SAFETY: without such a parent the process ends, which is what an unasked-for mark deserves.
    unsafe { libc::raise(libc::SIGUSR1) };
}

/// The file that a function was loaded from.
fn file_of(call: *const libc::c_void) -> Option<PathBuf> {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `found` is ours and lives through the call.
    let known = unsafe { libc::dladdr(call, found.as_mut_ptr()) } != 0;
    // SAFETY: zero is a value of every field, and the call writes whole ones.
    let found = unsafe { found.assume_init() };
    if !known || found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the linker's own text, which lives as long as the library is loaded.
    let path = unsafe { CStr::from_ptr(found.dli_fname) };
    fs::canonicalize(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()))).ok()
}

/// The parent's next word, `None` when it has no more.
pub fn asked() -> Option<u8> {
    let mut word = 0_u8;
    // SAFETY: one byte of ours.
    let read = unsafe { libc::read(0, (&raw mut word).cast(), 1) };
    (read == 1).then_some(word)
}

/// Answers with four numbers, as [`crate::smp::children`] reads them.
pub fn answer(figures: [f64; 4]) {
    let bytes: Vec<u8> = figures.iter().flat_map(|figure| figure.to_le_bytes()).collect();
    // SAFETY: the bytes are ours and as many as said.
    let written = unsafe { libc::write(1, bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(written, 32, "a parent that listens");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_from_its_line() {
        let text = b"Rss:                1234 kB\nPss:   7 kB\n";
        assert_eq!(number_after(text, b"Rss:"), Some(1234));
        assert_eq!(number_after(text, b"Pss:"), Some(7));
        assert_eq!(number_after(text, b"Swap:"), None);
        assert_eq!(number_after(b"Rss: many", b"Rss:"), None);
    }

    #[test]
    fn touched_pages_are_resident() {
        let before = resident();
        assert!(before > 0);
        let pages = vec![1_u8; 32 << 20];
        assert!(resident() >= before + (24 << 20), "of {} touched bytes", pages.len());
    }
}
