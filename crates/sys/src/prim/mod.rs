//! What Terrace asks of an operating system: a few calls, and their contract.
//!
//! ```text
//!   page.rs ─▶ prim: contract ─▶ [ fault: counts, fails on command ] ─▶ os: the system call
//!                                  only with feature `fault-injection`
//! ```
//!
//! What holds for all calls:
//! - Addresses and lengths are multiples of [`page_size`], lengths are not 0 and at most `isize::MAX`.
//! - A *range* is `len` bytes at `address` that this process mapped through [`map`], [`map_huge`], [`reserve`] or
//!   [`remap`] and has not unmapped since; the caller is the only one who uses it. A range need not be what one
//!   `map` returned: a part of it, or several that touch, will do.
//! - Where a range is of huge pages (`map_huge`), addresses and lengths are multiples of their size.
//! - A failed call has changed nothing, unless the call says otherwise. [`Errno`] says why it failed;
//!   what it *may* fail with is what Linux documents for these arguments.
//! - Calls may race with one another from any thread. None unwinds; none allocates.
//! - `ENOMEM` has three causes: no physical memory or swap that may be promised, the address-space
//!   limit (`RLIMIT_AS`), and the limit on the number of maps (`vm.max_map_count`). The last one hits
//!   `unmap`, `remap` and `protect` too, because cutting a map in two makes one more.
//!
//! Cost: the system call, and one compare.

use core::{ffi::CStr, num::NonZeroI32, ptr::NonNull};
// Not `terrace_sync`'s: it caches a constant, publishes nothing, and is used outside of models too.
use core::sync::atomic::{AtomicUsize, Ordering};

use terrace_core::{Access, AllocError};

#[cfg(any(test, feature = "fault-injection"))]
pub mod fault;
#[cfg(feature = "mapped-file")]
pub(crate) mod file;
mod os;

#[cfg(any(test, feature = "fault-injection"))]
use fault as layer;
#[cfg(not(any(test, feature = "fault-injection")))]
use os as layer;

/// The smallest page of any system that Terrace runs on, in bytes.
pub const PAGE_SIZE_MIN: usize = 4 << 10;

/// The largest (base) page of any system that Terrace runs on, in bytes.
pub const PAGE_SIZE_MAX: usize = 64 << 10;

/// Why the system refused, by its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) NonZeroI32);

impl Errno {
    /// The system knows no such call, or not with these arguments.
    pub(crate) fn is_not_known(self) -> bool {
        os::is_not_known(self)
    }

    /// Not this caller.
    #[cfg(feature = "std")]
    pub(crate) fn is_not_allowed(self) -> bool {
        os::is_not_allowed(self)
    }

    /// There is no such call at all.
    #[cfg(feature = "std")]
    pub(crate) fn is_no_call(self) -> bool {
        os::is_no_call(self)
    }

    /// No memory, or no map.
    #[cfg(feature = "std")]
    pub(crate) fn is_no_memory(self) -> bool {
        os::is_no_memory(self)
    }

    /// Nothing is mapped there.
    #[cfg(feature = "std")]
    pub(crate) fn is_no_range(self) -> bool {
        os::is_no_range(self)
    }
}

impl From<Errno> for AllocError {
    fn from(_: Errno) -> Self {
        Self // The interface knows one reason only.
    }
}

/// The size of a page in bytes: a power of two from [`PAGE_SIZE_MIN`] to [`PAGE_SIZE_MAX`], asked of
/// the system once, the same for the life of the process. (On a system that named another size it would be the
/// largest power of two there is, and every request be refused.)
///
/// ```
/// let page = terrace_sys::page_size();
/// assert!(page.is_power_of_two());
/// assert!((terrace_sys::PAGE_SIZE_MIN..=terrace_sys::PAGE_SIZE_MAX).contains(&page));
/// ```
#[inline]
pub fn page_size() -> usize {
    match PAGE_SIZE.load(Ordering::Relaxed) {
        0 => ask_page_size(),
        known => known,
    }
}

/// 0 until asked. Relaxed: threads that race to ask write the same value.
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

#[cold]
fn ask_page_size() -> usize {
    let size = usable(os::page_size());
    PAGE_SIZE.store(size, Ordering::Relaxed);
    size
}

/// No guess will do where the answer is unusable: with one too small, tails could not be unmapped, and with one
/// too large, blocks would lie between the multiples that their alignment asks for. No block has pages of half
/// the address space, so then every request is refused (`plan::whole_pages`).
fn usable(asked: Option<usize>) -> usize {
    let sane = |size: &usize| size.is_power_of_two() && (PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(size);
    asked.filter(sane).unwrap_or(1 << (usize::BITS - 1))
}

/// Processors that this process may run on, at least 1. Allocates nothing, so that an allocator may ask.
#[cfg(feature = "std")]
pub(crate) fn processors() -> usize {
    os::processors()
}

/// Milliseconds since some moment; advances by a few at a time. Costs a few loads.
#[cfg(feature = "std")]
pub(crate) fn coarse_millis() -> u64 {
    os::coarse_millis()
}

/// Maps `len` bytes of fresh zeroes, readable and writable, private, at an address of the system's
/// choice.
///
/// Returns: the new range. Fails with: `ENOMEM`; `EAGAIN` (locked memory).
#[inline(always)]
pub(crate) fn map(len: usize) -> Result<NonNull<u8>, Errno> {
    layer::map(len)
}

/// Maps `len` bytes as `map` does, of huge pages of `1 << log2` bytes each, at a multiple of their size. They are
/// taken out of the machine's pool now, all of them, so that touching one later does not fail for want of it.
///
/// Returns: the new range. Fails with: `ENOMEM`, where the pool has not enough; `EINVAL`, `ENOSYS`, where the
/// machine has no huge pages of this size.
///
/// pre: `len` is a multiple of `1 << log2`, which is above [`page_size`].
#[inline]
pub(crate) fn map_huge(len: usize, log2: u32) -> Result<NonNull<u8>, Errno> {
    layer::map_huge(len, log2)
}

/// Sets `len` bytes of addresses aside, which nobody may touch and for which no memory is promised: that is asked
/// for, and may be refused, by the first [`protect`] that makes them writable.
///
/// Returns: the new range. Fails with: `ENOMEM`.
#[inline]
pub(crate) fn reserve(len: usize) -> Result<NonNull<u8>, Errno> {
    layer::reserve(len)
}

/// Unmaps a range.
///
/// Fails with: `ENOMEM`, where the range is part of a larger map, which would be cut (the kernel joins maps
/// that touch, so a caller cannot know).
///
/// # Safety
/// pre: a range, not used again after success.
#[inline(always)]
pub(crate) unsafe fn unmap(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { layer::unmap(address, len) }
}

/// Changes the length of a range, keeping the first `min(old_len, new_len)` bytes; the rest is fresh
/// zeroes. `may_move` lets the system move the pages elsewhere; no byte is copied.
///
/// Returns: the range's address, the old one unless `may_move`; after success only that is valid.
/// Fails with: `ENOMEM`, also where the pages behind the range are taken; `EAGAIN` (locked memory);
/// `EFAULT` where parts of the range differ (in protection, say).
///
/// # Safety
/// pre: a range of `old_len` bytes.
#[inline(always)]
pub(crate) unsafe fn remap(
    address: NonNull<u8>,
    old_len: usize,
    new_len: usize,
    may_move: bool,
) -> Result<NonNull<u8>, Errno> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { layer::remap(address, old_len, new_len, may_move) }
}

/// Gives back the physical memory of a range, which stays mapped and now reads as zeroes.
///
/// Fails with: `EINVAL` where pages are locked; pages before the first locked one are then empty.
///
/// # Safety
/// pre: a range.
#[inline(always)]
pub(crate) unsafe fn decommit(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { layer::decommit(address, len) }
}

/// Sets what may be done to a range.
///
/// Fails with: `ENOMEM` (number of maps; promised memory, where the range was `reserve`d); where parts of the range differed before, those at its
/// beginning may have been changed.
///
/// # Safety
/// pre: a range; nobody does to it what `access` no longer allows.
#[inline(always)]
pub(crate) unsafe fn protect(address: NonNull<u8>, len: usize, access: Access) -> Result<(), Errno> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { layer::protect(address, len, access) }
}

/// Asks for transparent huge pages in a range: the system uses them where it can.
///
/// Fails with: `EINVAL`, where the system has none.
///
/// # Safety
/// pre: a range.
#[inline]
pub(crate) unsafe fn advise_huge(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { layer::advise_huge(address, len) }
}

/// Brings every page of a writable range into memory now, as if it were written to; contents stay.
///
/// Fails with: `ENOMEM`, `EFAULT` and others, where there is no memory; some pages may then be in memory;
/// `EINVAL`, where the system does not know the call (Linux before 5.14).
///
/// # Safety
/// pre: a range.
#[inline]
pub(crate) unsafe fn populate(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { layer::populate(address, len) }
}

/// Gives a range a name that `/proc/PID/maps` shows. The system copies it.
///
/// Fails with: `EINVAL`, where the system has no names (Linux before 5.17, or without `CONFIG_ANON_VMA_NAME`), or
/// takes this one for none; `EBADF` for huge pages of `map_huge`; `ENOMEM`.
///
/// # Safety
/// pre: a range.
#[inline]
pub(crate) unsafe fn name(address: NonNull<u8>, len: usize, name: &CStr) -> Result<(), Errno> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { layer::name(address, len, name) }
}

/// The words of a set of nodes, a bit for each of node 0 to 1023.
#[cfg(feature = "std")]
pub(crate) type NodeBits = [u64; 16];

/// Says from which nodes the pages of `len` bytes at `address` come when they are touched, by one of `policy`'s modes. Contents and
/// pages that are there stay as they are.
///
/// Fails with: `EINVAL`, where a node is not there or may not be used; `EFAULT`, where nothing is mapped; `ENOMEM` (number of maps);
/// `ENOSYS`, `EPERM`, where the kernel has no nodes or a filter forbids the call.
#[cfg(feature = "std")]
pub(crate) fn bind(address: NonNull<u8>, len: usize, mode: Mode, nodes: &NodeBits) -> Result<(), Errno> {
    layer::bind(address, len, mode, nodes)
}

/// The same for all that this thread touches without a policy of its own.
///
/// Fails as `bind` does.
#[cfg(feature = "std")]
pub(crate) fn set_policy(mode: Mode, nodes: &NodeBits) -> Result<(), Errno> {
    layer::set_policy(mode, nodes)
}

/// What `set_policy` has said; `None` for a mode that `Mode` has no name for.
///
/// Fails with: `ENOSYS`, `EPERM`.
#[cfg(feature = "std")]
pub(crate) fn policy() -> Result<(Option<Mode>, NodeBits), Errno> {
    layer::policy()
}

/// Moves the page at each address to the node in `to`, or with `None` only asks; `found` gets the node that each lies on after
/// that, or less than 0: one of `NOWHERE`, or the negative of another error for a page that would not move.
///
/// Fails with: `ENODEV`, `EACCES`, where a node is not there or may not be used; `ENOSYS`, `EPERM`.
///
/// pre: `found`, and `to` if any, are as long as `pages`.
#[cfg(feature = "std")]
pub(crate) fn move_pages(pages: &[usize], to: Option<&[i32]>, found: &mut [i32]) -> Result<(), Errno> {
    debug_assert!(pages.len() == found.len() && to.is_none_or(|to| to.len() == pages.len()));
    layer::move_pages(pages, to, found)
}

/// Joins the pages of `len` bytes at `address` to huge ones now.
///
/// Fails with: `EINVAL`, where the kernel does not know the call (Linux before 6.1) or the map admits no huge pages; `ENOMEM`,
/// `EAGAIN`, `EBUSY`, where it could not this time: some may then be joined.
#[cfg(feature = "std")]
pub(crate) fn collapse(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    layer::collapse(address, len)
}

/// The node of the processor that this thread runs on at the moment.
///
/// Fails with: `ENOSYS`.
#[cfg(feature = "std")]
pub(crate) fn current_node() -> Result<usize, Errno> {
    layer::current_node()
}

/// What `move_pages` finds for a page that was never touched, or is not mapped: which of the two, differs from kernel to kernel.
#[cfg(feature = "std")]
pub(crate) const NOWHERE: [i32; 2] = os::NOWHERE;

/// How nodes are chosen. The names are Linux's.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Default,
    Preferred,
    Bind,
    Interleave,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::whole_pages;

    #[test]
    fn without_a_usable_page_size_every_request_is_refused() {
        for asked in [PAGE_SIZE_MIN, 16 << 10, PAGE_SIZE_MAX] {
            assert_eq!(usable(Some(asked)), asked);
        }
        for asked in [None, Some(0), Some(1), Some(2 << 10), Some(4095), Some(12 << 10), Some(128 << 10)] {
            let page = usable(asked);
            for len in [1, 4096, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX] {
                assert_eq!(whole_pages(len, page), None, "{len} bytes, {asked:?}");
            }
        }
    }
}
