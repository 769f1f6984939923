//! The spool's directory, kept where no allocator is needed, and the names of the files in it.
//!
//! - **T1** `LEN` is 0 until the bytes before it were written; after that they never change.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The longest path that Linux takes, with its final 0.
const PATH_BYTES: usize = 4096;
/// What a file's name in the directory may need.
const NAME_BYTES: usize = 64;

/// A directory.
pub struct Path {
    bytes: UnsafeCell<[u8; PATH_BYTES]>,
    len: AtomicUsize,
}

// SAFETY: by T1 the bytes are written once, before anybody reads them.
unsafe impl Sync for Path {}

impl Path {
    /// No directory yet.
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; PATH_BYTES]), len: AtomicUsize::new(0) }
    }

    /// Keeps `directory`: a program may write over its own environment. Called once, by the
    /// recorder's constructor. `false`: too long.
    pub fn set(&self, directory: &CStr) -> bool {
        let directory = directory.to_bytes();
        if directory.is_empty() || directory.len() + NAME_BYTES > PATH_BYTES {
            return false;
        }
        // SAFETY: by T1 nobody reads before the length is set.
        let bytes = unsafe { &mut *self.bytes.get() };
        append(bytes, 0, directory);
        self.len.store(directory.len(), Ordering::Release);
        true
    }

    /// Calls `work` with the path of a file in the directory: `name`, followed by `number`.
    pub fn with<T>(&self, name: &CStr, number: Option<u64>, work: impl FnOnce(&CStr) -> T) -> T {
        // SAFETY: by T1 written and constant.
        let directory = unsafe { &*self.bytes.get() };
        let directory = directory.get(..self.len.load(Ordering::Acquire)).unwrap_or_default();
        let mut path = [0; PATH_BYTES];
        let end = append(&mut path, 0, directory);
        let end = append(&mut path, end, name.to_bytes());
        if let Some(number) = number {
            append_decimal(&mut path, end, number);
        }
        work(CStr::from_bytes_until_nul(&path).unwrap_or_default())
    }
}

/// Writes `more` to `path` from `at` on and returns where it ends. What does not fit is left out:
/// nothing here may panic, and `set` has seen to it that there is room.
fn append(path: &mut [u8; PATH_BYTES], at: usize, more: &[u8]) -> usize {
    for (place, byte) in path.iter_mut().skip(at).zip(more) {
        *place = *byte;
    }
    at + more.len()
}

fn append_decimal(path: &mut [u8; PATH_BYTES], at: usize, number: u64) {
    let mut digits = [0; 20];
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count().min(digits.len() - 1);
    append(path, at, digits.get(zeros..).unwrap_or_default());
}
