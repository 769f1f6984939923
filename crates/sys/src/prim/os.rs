//! The calls of `prim` on Linux: each is one system call, through libc.
//!
//! The contract is `prim`'s; nothing here checks it again.

use core::{ffi::CStr, num::NonZeroI32, ptr, ptr::NonNull};

use terrace_core::Access;

use super::Errno;
#[cfg(feature = "std")]
use super::{Mode, NodeBits};

/// `None` where the system does not say.
pub(super) fn page_size() -> Option<usize> {
    // SAFETY: `sysconf` only reads its argument.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok()
}

/// Processors that this process may run on. Unlike std's `available_parallelism` it allocates nothing.
#[cfg(feature = "std")]
pub(super) fn processors() -> usize {
    let mut set = core::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set has room for what is written, which is at most its size.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        return 1; // More processors than the set has room for, or a kernel that does not say.
    }
    // SAFETY: zeroes are a set, and so is what the call wrote.
    let set = unsafe { set.assume_init() };
    // SAFETY: the set is initialised.
    let count = unsafe { libc::CPU_COUNT(&set) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// Milliseconds since some moment, as of the last tick: no system call.
#[cfg(feature = "std")]
pub(super) fn coarse_millis() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for what is written.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

#[inline(always)]
pub(super) fn map(len: usize) -> Result<NonNull<u8>, Errno> {
    map_as(len, libc::PROT_READ | libc::PROT_WRITE, 0)
}

pub(super) fn map_huge(len: usize, log2: u32) -> Result<NonNull<u8>, Errno> {
    // Never with MAP_NORESERVE: the pages would not be taken out of the pool before they are touched, and where it
    // is empty then, the process ends with SIGBUS.
    // The logarithm is at most 63, so the highest bit is the sign's, and the kernel's too.
    let size = (log2 << libc::MAP_HUGE_SHIFT).cast_signed();
    map_as(len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_HUGETLB | size)
}

pub(super) fn reserve(len: usize) -> Result<NonNull<u8>, Errno> {
    // Without MAP_NORESERVE: what may not be written is promised no memory anyway, and a later mprotect is to ask.
    map_as(len, libc::PROT_NONE, 0)
}

#[inline(always)]
fn map_as(len: usize, access: libc::c_int, more: libc::c_int) -> Result<NonNull<u8>, Errno> {
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | more;
    // SAFETY: without MAP_FIXED a new map touches no existing one.
    let address = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, -1, 0) };
    mapped(address)
}

/// # Safety
/// As `prim::unmap`.
#[inline(always)]
pub(super) unsafe fn unmap(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: the range is the caller's to give up.
    done(unsafe { libc::munmap(address.as_ptr().cast(), len) })
}

/// # Safety
/// As `prim::remap`.
#[inline(always)]
pub(super) unsafe fn remap(
    address: NonNull<u8>,
    old_len: usize,
    new_len: usize,
    may_move: bool,
) -> Result<NonNull<u8>, Errno> {
    let flags = if may_move { libc::MREMAP_MAYMOVE } else { 0 };
    // SAFETY: the range is the caller's; without MREMAP_FIXED no other map is touched.
    let address = unsafe { libc::mremap(address.as_ptr().cast(), old_len, new_len, flags) };
    mapped(address)
}

/// # Safety
/// As `prim::decommit`.
#[inline(always)]
pub(super) unsafe fn decommit(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // MADV_FREE would be cheaper, but its pages keep their contents for a while: they would not read as zero.
    // SAFETY: the range is the caller's, who expects its contents to go.
    done(unsafe { libc::madvise(address.as_ptr().cast(), len, libc::MADV_DONTNEED) })
}

/// # Safety
/// As `prim::protect`.
#[inline(always)]
pub(super) unsafe fn protect(address: NonNull<u8>, len: usize, access: Access) -> Result<(), Errno> {
    let access = match access {
        Access::None => libc::PROT_NONE,
        Access::Read => libc::PROT_READ,
        Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    };
    // SAFETY: the range is the caller's, who answers for its use.
    done(unsafe { libc::mprotect(address.as_ptr().cast(), len, access) })
}

/// # Safety
/// As `prim::advise_huge`.
pub(super) unsafe fn advise_huge(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: the range is the caller's; the advice changes no contents.
    done(unsafe { libc::madvise(address.as_ptr().cast(), len, libc::MADV_HUGEPAGE) })
}

/// # Safety
/// As `prim::populate`.
pub(super) unsafe fn populate(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    loop {
        // SAFETY: the range is the caller's; no contents change.
        let done = done(unsafe { libc::madvise(address.as_ptr().cast(), len, libc::MADV_POPULATE_WRITE) });
        // EAGAIN and EINTR are of the moment: a signal, say.
        if !matches!(done, Err(Errno(why)) if matches!(why.get(), libc::EAGAIN | libc::EINTR)) {
            return done;
        }
    }
}

/// # Safety
/// As `prim::name`.
pub(super) unsafe fn name(address: NonNull<u8>, len: usize, name: &CStr) -> Result<(), Errno> {
    // A variable argument is as wide as the kernel reads it.
    let what = libc::PR_SET_VMA_ANON_NAME as libc::c_ulong;
    let (start, name) = (address.as_ptr(), name.as_ptr());
    // SAFETY: the range is the caller's; the name ends in 0, and the kernel only reads it.
    done(unsafe { libc::prctl(libc::PR_SET_VMA, what, start, len, name) })
}

/// How many bits the kernel is told that a set has: it reads one less.
#[cfg(feature = "std")]
const NODE_BITS: libc::c_ulong = (size_of::<NodeBits>() * 8 + 1) as libc::c_ulong;

#[cfg(feature = "std")]
const MODES: [(Mode, libc::c_int); 4] = [
    (Mode::Default, libc::MPOL_DEFAULT),
    (Mode::Preferred, libc::MPOL_PREFERRED),
    (Mode::Bind, libc::MPOL_BIND),
    (Mode::Interleave, libc::MPOL_INTERLEAVE),
];

#[cfg(feature = "std")]
fn number(mode: Mode) -> libc::c_int {
    MODES.iter().find(|(named, _)| *named == mode).map_or(libc::MPOL_DEFAULT, |&(_, number)| number)
}

/// The default takes no set.
#[cfg(feature = "std")]
fn set(mode: Mode, nodes: &NodeBits) -> (*const u64, libc::c_ulong) {
    if mode == Mode::Default { (ptr::null(), 0) } else { (nodes.as_ptr(), NODE_BITS) }
}

#[cfg(feature = "std")]
pub(super) fn bind(address: NonNull<u8>, len: usize, mode: Mode, nodes: &NodeBits) -> Result<(), Errno> {
    let (bits, count) = set(mode, nodes);
    // SAFETY: the kernel looks at the addresses itself, and the policy of pages changes no contents; it reads the set only.
    called(unsafe { libc::syscall(libc::SYS_mbind, address.as_ptr(), len, number(mode), bits, count, 0) })
}

#[cfg(feature = "std")]
pub(super) fn set_policy(mode: Mode, nodes: &NodeBits) -> Result<(), Errno> {
    let (bits, count) = set(mode, nodes);
    // SAFETY: the kernel reads the set only.
    called(unsafe { libc::syscall(libc::SYS_set_mempolicy, number(mode), bits, count) })
}

#[cfg(feature = "std")]
pub(super) fn policy() -> Result<(Option<Mode>, NodeBits), Errno> {
    let (mut mode, mut nodes): (libc::c_int, NodeBits) = (0, [0; 16]);
    let nowhere = ptr::null::<u8>();
    // SAFETY: there is room for what is written: a number, and as many bits as are said.
    called(unsafe {
        libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, nodes.as_mut_ptr(), NODE_BITS, nowhere, 0)
    })?;
    Ok((MODES.iter().find(|&&(_, number)| number == mode).map(|&(named, _)| named), nodes))
}

#[cfg(feature = "std")]
pub(super) fn move_pages(pages: &[usize], to: Option<&[i32]>, found: &mut [i32]) -> Result<(), Errno> {
    let to = to.map_or(ptr::null(), <[i32]>::as_ptr);
    let (myself, count, flags) = (0, pages.len(), libc::c_long::from(MPOL_MF_MOVE));
    // SAFETY: the kernel looks at the addresses itself; a page that moves keeps contents and address. It reads as many nodes, and
    // writes as many answers, as there are pages.
    let left =
        unsafe { libc::syscall(libc::SYS_move_pages, myself, count, pages.as_ptr(), to, found.as_mut_ptr(), flags) };
    // Above 0: so many could not be moved, of which the answers tell.
    if left >= 0 { Ok(()) } else { Err(last_error()) }
}

#[cfg(feature = "std")]
pub(super) const NOWHERE: [i32; 2] = [-libc::ENOENT, -libc::EFAULT];

/// Pages that this process alone uses: `libc` has no name for it.
#[cfg(feature = "std")]
const MPOL_MF_MOVE: libc::c_int = 2;

#[cfg(feature = "std")]
pub(super) fn collapse(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: the kernel looks at the addresses itself; contents stay.
    done(unsafe { libc::madvise(address.as_ptr().cast(), len, MADV_COLLAPSE) })
}

/// Since Linux 6.1; `libc` has it for glibc alone.
#[cfg(feature = "std")]
const MADV_COLLAPSE: libc::c_int = 25;

#[cfg(feature = "std")]
pub(super) fn current_node() -> Result<usize, Errno> {
    let (mut cpu, mut node): (libc::c_uint, libc::c_uint) = (0, 0);
    // SAFETY: there is room for what is written.
    called(unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, ptr::null::<u8>()) })?;
    Ok(node as usize)
}

/// 0, or -1 for a failure.
#[cfg(feature = "std")]
fn called(result: libc::c_long) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

#[cfg(feature = "std")]
pub(super) fn is_not_allowed(Errno(number): Errno) -> bool {
    matches!(number.get(), libc::EPERM | libc::EACCES)
}

#[cfg(feature = "std")]
pub(super) fn is_no_call(Errno(number): Errno) -> bool {
    number.get() == libc::ENOSYS
}

#[cfg(feature = "std")]
pub(super) fn is_no_memory(Errno(number): Errno) -> bool {
    matches!(number.get(), libc::ENOMEM | libc::EAGAIN | libc::EBUSY)
}

#[cfg(feature = "std")]
pub(super) fn is_no_range(Errno(number): Errno) -> bool {
    number.get() == libc::EFAULT
}

pub(super) fn is_not_known(Errno(number): Errno) -> bool {
    matches!(number.get(), libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)
}

/// An address, or `MAP_FAILED`. Linux maps nothing at address 0 unless told to, so nothing is lost
/// where null is taken for a failure.
#[inline(always)]
fn mapped(address: *mut libc::c_void) -> Result<NonNull<u8>, Errno> {
    match NonNull::new(address.cast()) {
        Some(start) if address != libc::MAP_FAILED => Ok(start),
        _ => Err(last_error()),
    }
}

/// 0, or -1 for a failure.
#[inline(always)]
fn done(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

#[cold]
fn last_error() -> Errno {
    // SAFETY: the location is valid in every thread.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's own.
    let number = unsafe { location.read() };
    Errno(NonZeroI32::new(number).unwrap_or(ENOMEM))
}

/// `ENOMEM` is 12.
const ENOMEM: NonZeroI32 = NonZeroI32::new(libc::ENOMEM).unwrap();
