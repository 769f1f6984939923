//! The calls of `prim`, counted and made to fail on command. For tests, with feature `fault-injection`.
//!
//! ```text
//!                  no session in this thread
//!   prim ─▶ fault ───────────────────────────▶ os
//!             │ session: count, look into the plan
//!             ├─ planned ─▶ the error planned; the system is not asked
//!             └─ else ────▶ os, then the ledger of what this thread has mapped
//! ```
//!
//! A [`Session`] watches the thread that started it. One at a time in a process: what `PageAllocator` keeps
//! of a failed unmapping is the process's, and would end in another session's count.
//!
//! - **I1** The ledger is sorted, its ranges are not empty and do not touch.

use std::{
    cell::RefCell,
    marker::PhantomData,
    ops::{Bound, Range, RangeBounds},
    sync::{Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

use core::{ffi::CStr, num::NonZeroI32, ptr::NonNull};

use terrace_core::Access;

use super::{Errno, os};
#[cfg(feature = "std")]
use super::{Mode, NodeBits};

/// Declares the kinds of calls, and the list of them all.
macro_rules! calls {
    ($($(#[$says:meta])* $call:ident),+ $(,)?) => {
        /// A kind of call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Call {
            $($(#[$says])* $call,)+
        }

        impl Call {
            /// Every kind.
            pub const ALL: [Self; [$(Self::$call),+].len()] = [$(Self::$call),+];
        }
    };
}

calls! {
    /// mmap
    Map,
    /// munmap
    Unmap,
    /// mremap
    Remap,
    /// madvise, to empty pages
    Decommit,
    /// mprotect
    Protect,
    /// mmap of huge pages
    MapHuge,
    /// mmap of addresses without memory
    Reserve,
    /// madvise, for transparent huge pages
    AdviseHuge,
    /// madvise, to bring pages into memory
    Populate,
    /// prctl, for a map's name
    Name,
    /// open, of a file without a name
    OpenUnnamed,
    /// ftruncate
    SetLength,
    /// fallocate
    TakeSpace,
    /// mmap of a file
    MapFile,
    /// msync
    Flush,
    /// madvise, to drop a file's pages from memory
    Evict,
    /// mbind
    Bind,
    /// set_mempolicy
    SetPolicy,
    /// get_mempolicy
    GetPolicy,
    /// move_pages
    MovePages,
    /// madvise, to join pages to huge ones
    Collapse,
    /// getcpu
    CurrentNode,
}

/// Watches the system calls of this thread until it is dropped.
///
/// ```
/// # #[cfg(feature = "fault-injection")] {
/// use core::num::NonZeroUsize;
/// use terrace_core::{Alignment, Allocator};
/// use terrace_sys::{PageAllocator, fault::{Call, Session}};
///
/// let session = Session::start();
/// session.fail(Some(Call::Map), 1..=1, 12);
/// let len = NonZeroUsize::new(100).unwrap();
/// assert!(PageAllocator.alloc(len, Alignment::ONE).is_err(), "ENOMEM is 12");
/// assert_eq!(session.calls(Call::Map), 1);
/// assert_eq!(session.mapped(), 0);
/// # }
/// ```
pub struct Session {
    _turn: MutexGuard<'static, ()>,
    /// Not `Send`: it belongs to the thread it watches.
    _thread: PhantomData<*const ()>,
}

static TURN: Mutex<()> = Mutex::new(());

std::thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct State {
    made: [usize; Call::ALL.len()],
    faults: Vec<Fault>,
    ledger: Vec<Range<usize>>,
}

/// Fails the calls whose number, counted from when the fault was planned, is in `numbers`.
struct Fault {
    call: Option<Call>,
    numbers: (Bound<usize>, Bound<usize>),
    seen: usize,
    errno: Errno,
}

impl Session {
    /// Starts one; waits while another thread has one.
    ///
    /// # Panics
    /// Where this thread has one already.
    #[must_use = "it watches until it is dropped"]
    pub fn start() -> Self {
        let twice = STATE.with_borrow(Option::is_some);
        assert!(!twice, "this thread has a fault session already");
        // A test that failed in its session has spoiled nothing: dropping it ended it.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        STATE.set(Some(State::default()));
        Self { _turn: turn, _thread: PhantomData }
    }

    /// Plans a fault: of the calls of kind `call` (`None`: of any kind) made from now on, those
    /// numbered in `numbers` fail with `errno` and do not reach the system. The first is number 1.
    ///
    /// # Panics
    /// Where `errno` is 0.
    pub fn fail(&self, call: Option<Call>, numbers: impl RangeBounds<usize>, errno: i32) {
        let errno = Errno(NonZeroI32::new(errno).expect("an errno is not 0"));
        let numbers = (numbers.start_bound().cloned(), numbers.end_bound().cloned());
        self.with(|state| state.faults.push(Fault { call, numbers, seen: 0, errno }));
    }

    /// Forgets the faults planned.
    pub fn heal(&self) {
        self.with(|state| state.faults.clear());
    }

    /// How many calls of this kind have been made, those that failed included.
    pub fn calls(&self, call: Call) -> usize {
        self.with(|state| state.made[call as usize])
    }

    /// How many bytes this thread has mapped and not unmapped since the session began.
    pub fn mapped(&self) -> usize {
        self.with(|state| state.ledger.iter().map(ExactSizeIterator::len).sum())
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        STATE.with_borrow_mut(|state| look(state.as_mut().expect("there is one while a session lives")))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        STATE.set(None);
    }
}

/// Runs `look` on the thread's session, where there is one. Inside a session's own allocations, and
/// while a thread ends, there is none.
fn session<R>(look: impl FnOnce(&mut State) -> R) -> Option<R> {
    STATE.try_with(|state| Some(look(state.try_borrow_mut().ok()?.as_mut()?))).ok()?
}

/// Counts a call, and fails it where that is planned.
pub(super) fn admit(call: Call) -> Result<(), Errno> {
    let planned = session(|state| {
        state.made[call as usize] += 1;
        let mut planned = None;
        for fault in state.faults.iter_mut().filter(|fault| fault.call.is_none_or(|only| only == call)) {
            fault.seen += 1;
            if fault.numbers.contains(&fault.seen) {
                planned = planned.or(Some(fault.errno));
            }
        }
        planned
    });
    planned.flatten().map_or(Ok(()), Err)
}

fn range(address: NonNull<u8>, len: usize) -> Range<usize> {
    let start = address.addr().get();
    start..start + len
}

/// Keeps I1.
fn remove(ledger: &mut Vec<Range<usize>>, gone: &Range<usize>) {
    let cut = |kept: &Range<usize>| {
        [kept.start..kept.end.min(gone.start), kept.start.max(gone.end)..kept.end].into_iter().filter(|r| !r.is_empty())
    };
    *ledger = ledger.iter().flat_map(cut).collect();
}

/// Keeps I1.
fn add(ledger: &mut Vec<Range<usize>>, new: Range<usize>) {
    remove(ledger, &new); // Nothing, where what unmapped it was watched.
    let at = ledger.partition_point(|kept| kept.end < new.start);
    let touching = ledger[at..].iter().take_while(|kept| kept.start <= new.end).count();
    let merged = ledger.drain(at..at + touching).fold(new, |a, b| a.start.min(b.start)..a.end.max(b.end));
    ledger.insert(at, merged);
}

/// A new range, for the ledger.
pub(super) fn enter(address: NonNull<u8>, len: usize) {
    session(|state| add(&mut state.ledger, range(address, len)));
}

/// A range that is no more, for the ledger.
pub(super) fn strike(address: NonNull<u8>, len: usize) {
    session(|state| remove(&mut state.ledger, &range(address, len)));
}

pub(super) fn map(len: usize) -> Result<NonNull<u8>, Errno> {
    admit(Call::Map)?;
    os::map(len).inspect(|&address| enter(address, len))
}

pub(super) fn map_huge(len: usize, log2: u32) -> Result<NonNull<u8>, Errno> {
    admit(Call::MapHuge)?;
    os::map_huge(len, log2).inspect(|&address| enter(address, len))
}

pub(super) fn reserve(len: usize) -> Result<NonNull<u8>, Errno> {
    admit(Call::Reserve)?;
    os::reserve(len).inspect(|&address| enter(address, len))
}

/// # Safety
/// As `prim::unmap`.
pub(super) unsafe fn unmap(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    admit(Call::Unmap)?;
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { os::unmap(address, len) }?;
    strike(address, len);
    Ok(())
}

/// # Safety
/// As `prim::remap`.
pub(super) unsafe fn remap(
    address: NonNull<u8>,
    old_len: usize,
    new_len: usize,
    may_move: bool,
) -> Result<NonNull<u8>, Errno> {
    admit(Call::Remap)?;
    // SAFETY: the caller's promise, passed on unchanged.
    let moved = unsafe { os::remap(address, old_len, new_len, may_move) }?;
    strike(address, old_len);
    enter(moved, new_len);
    Ok(moved)
}

/// # Safety
/// As `prim::decommit`.
pub(super) unsafe fn decommit(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    admit(Call::Decommit)?;
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { os::decommit(address, len) }
}

/// # Safety
/// As `prim::protect`.
pub(super) unsafe fn protect(address: NonNull<u8>, len: usize, access: Access) -> Result<(), Errno> {
    admit(Call::Protect)?;
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { os::protect(address, len, access) }
}

/// # Safety
/// As `prim::advise_huge`.
pub(super) unsafe fn advise_huge(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    admit(Call::AdviseHuge)?;
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { os::advise_huge(address, len) }
}

/// # Safety
/// As `prim::populate`.
pub(super) unsafe fn populate(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    admit(Call::Populate)?;
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { os::populate(address, len) }
}

/// # Safety
/// As `prim::name`.
pub(super) unsafe fn name(address: NonNull<u8>, len: usize, name: &CStr) -> Result<(), Errno> {
    admit(Call::Name)?;
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { os::name(address, len, name) }
}

#[cfg(feature = "std")]
pub(super) fn bind(address: NonNull<u8>, len: usize, mode: Mode, nodes: &NodeBits) -> Result<(), Errno> {
    admit(Call::Bind)?;
    os::bind(address, len, mode, nodes)
}

#[cfg(feature = "std")]
pub(super) fn set_policy(mode: Mode, nodes: &NodeBits) -> Result<(), Errno> {
    admit(Call::SetPolicy)?;
    os::set_policy(mode, nodes)
}

#[cfg(feature = "std")]
pub(super) fn policy() -> Result<(Option<Mode>, NodeBits), Errno> {
    admit(Call::GetPolicy)?;
    os::policy()
}

#[cfg(feature = "std")]
pub(super) fn move_pages(pages: &[usize], to: Option<&[i32]>, found: &mut [i32]) -> Result<(), Errno> {
    admit(Call::MovePages)?;
    os::move_pages(pages, to, found)
}

#[cfg(feature = "std")]
pub(super) fn collapse(address: NonNull<u8>, len: usize) -> Result<(), Errno> {
    admit(Call::Collapse)?;
    os::collapse(address, len)
}

#[cfg(feature = "std")]
pub(super) fn current_node() -> Result<usize, Errno> {
    admit(Call::CurrentNode)?;
    os::current_node()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a set of units, over every pair of operations on ranges of a short line.
    #[test]
    fn the_ledger_agrees_with_a_set() {
        let all: Vec<Range<usize>> = (0..6).flat_map(|start| (start + 1..7).map(move |end| start..end)).collect();
        for (first, second, third) in all
            .iter()
            .flat_map(|a| all.iter().map(move |b| (a, b)))
            .flat_map(|(a, b)| all.iter().map(move |c| (a, b, c)))
        {
            let mut ledger = Vec::new();
            add(&mut ledger, first.clone());
            add(&mut ledger, second.clone());
            remove(&mut ledger, third);
            for unit in 0..7 {
                let expected = (first.contains(&unit) || second.contains(&unit)) && !third.contains(&unit);
                assert_eq!(ledger.iter().filter(|kept| kept.contains(&unit)).count(), usize::from(expected));
            }
            assert!(ledger.iter().all(|kept| !kept.is_empty()), "I1");
            assert!(ledger.windows(2).all(|pair| pair[0].end < pair[1].start), "I1: {ledger:?}");
        }
    }

    #[test]
    fn faults_count_from_when_they_are_planned() {
        let session = Session::start();
        assert!(admit(Call::Map).is_ok());
        session.fail(Some(Call::Map), 2..=3, 11);
        session.fail(None, 5.., 12);
        let answers: Vec<i32> = [Call::Map, Call::Map, Call::Map, Call::Map, Call::Unmap]
            .map(|call| admit(call).err().map_or(0, |errno| errno.0.get()))
            .into();
        assert_eq!(answers, [0, 11, 11, 0, 12]);
        assert_eq!((session.calls(Call::Map), session.calls(Call::Unmap)), (5, 1));
        session.heal();
        assert!(admit(Call::Unmap).is_ok());
    }

    #[test]
    fn threads_without_a_session_are_left_alone() {
        let session = Session::start();
        session.fail(None, .., 12);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(admit(Call::Map).is_ok()));
        });
        assert!(admit(Call::Map).is_err());
        assert_eq!(session.calls(Call::Map), 1);
    }
}
