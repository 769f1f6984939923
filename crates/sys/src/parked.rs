//! Ranges that the system would not unmap, kept until it will, with no memory but a note in a page of their own.
//!
//! Unmapping the middle of a map makes two maps of one, and fails where the process has all the maps
//! that it may have (`vm.max_map_count`). `free` cannot say so; the range waits here instead.
//!
//! ```text
//!   due   ──▶ [ next, range | decommitted … ] ──▶ [ next, range | … ] ──▶ ∅    to be tried
//!   tried ──▶ [ next, range | … ] ──▶ ∅                                        tried, and refused
//! ```
//!
//! The note, a node of a list, stands in a page that is writable: the first one of the range as a rule, the first
//! behind a guard page, or a page outside that was mapped for it (a reservation has none that is writable).
//!
//! Each try takes a whole list, so that no node leaves a list while another thread reads it (no ABA).
//! What is refused goes to `tried`; when `due` is empty, `tried` takes its place. So every range gets
//! its turn, and a call makes at most one try that fails.
//!
//! - **I1** Every node lies in mapped, writable memory, and its range is mapped; both belong to the list alone.
//! - **I2** A node is in one list, or in the chain that one thread has taken, never in two.
//! - **I3** Who publishes a node has written it before (Release); who takes a list sees that (Acquire).
//!
//! Nothing here waits or allocates. In a forked child, what another thread had taken at that moment stays mapped.
//!
//! Cost: none while nothing is parked but two loads a `free`; no memory but the ranges' own.
//!
//! Tested by `tests/parked.rs`, and by `tests/loom_parked.rs` in every order of threads.

use core::{ptr, ptr::NonNull};

use terrace_sync::{
    atomic::{AtomicPtr, Ordering},
    cell::UnsafeCell,
};

/// The note of a parked range.
pub(crate) struct Node {
    link: UnsafeCell<Link>,
}

#[derive(Clone, Copy)]
struct Link {
    next: *mut Node,
    start: NonNull<u8>,
    len: usize,
}

/// The two lists.
pub(crate) struct Parked {
    pub(crate) due: AtomicPtr<Node>,
    pub(crate) tried: AtomicPtr<Node>,
}

impl Parked {
    /// Whether nothing waits. A hint: Relaxed, for `retry` looks again.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.due.load(Ordering::Relaxed).is_null() && self.tried.load(Ordering::Relaxed).is_null()
    }

    /// Keeps a range that was just refused, noted at `note`.
    ///
    /// # Safety
    /// `len` bytes at `start`, whole pages, are mapped, and nobody uses them again. So is the page that begins at
    /// `note`, which is writable.
    pub(crate) unsafe fn park(&self, note: NonNull<u8>, start: NonNull<u8>, len: usize) {
        let node = note.cast::<Node>();
        let link = UnsafeCell::new(Link { next: ptr::null_mut(), start, len });
        // SAFETY: a page is larger than a node and aligned for it, and it is ours.
        unsafe { node.write(Node { link }) };
        // SAFETY: this establishes I1; no list has the node yet (I2).
        unsafe { push(&self.tried, node) };
    }

    /// Tries to unmap what waits, until `unmap` says `false` for a range. It is told the note, where the range starts,
    /// and its length; after `true` the note belongs to whoever unmapped.
    pub(crate) fn retry(&self, mut unmap: impl FnMut(NonNull<u8>, NonNull<u8>, usize) -> bool) {
        let mut chain = take(&self.due);
        if chain.is_null() {
            chain = take(&self.tried);
        }
        while let Some(node) = NonNull::new(chain) {
            // SAFETY: the chain is this thread's (I2), its nodes are mapped (I1).
            let Link { next, start, len } = unsafe { read(node) };
            if !unmap(node.cast(), start, len) {
                // SAFETY: refused, so still mapped (I1), and of the chain (I2).
                unsafe { push(&self.tried, node) };
                // SAFETY: the rest of the chain, as above.
                unsafe { put_back(&self.due, next) };
                return;
            }
            chain = next;
        }
    }
}

/// Takes all of `list`.
fn take(list: &AtomicPtr<Node>) -> *mut Node {
    // Acquire: pairs with the Release of `push` and `put_back` (I3).
    list.swap(ptr::null_mut(), Ordering::Acquire)
}

/// # Safety
/// `node` is of no list, and the caller's (I1, I2).
unsafe fn push(list: &AtomicPtr<Node>, node: NonNull<Node>) {
    let mut head = list.load(Ordering::Relaxed);
    loop {
        // SAFETY: `node` is mapped (I1).
        let this = unsafe { node.as_ref() };
        this.link.with_mut(|link| {
            // SAFETY: nobody else has the node (I2).
            unsafe { (*link).next = head }
        });
        // Release: pairs with the Acquire of `take` (I3). The nodes behind this one were released by
        // whoever pushed them; a swap in between keeps their release sequence alive.
        match list.compare_exchange_weak(head, node.as_ptr(), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(current) => head = current,
        }
    }
}

/// Gives a chain back: in one piece, unless somebody has pushed meanwhile.
///
/// # Safety
/// `chain` is empty or of no list, and the caller's (I1, I2).
unsafe fn put_back(list: &AtomicPtr<Node>, mut chain: *mut Node) {
    // Release: pairs with the Acquire of `take` (I3).
    if list.compare_exchange(ptr::null_mut(), chain, Ordering::Release, Ordering::Relaxed).is_ok() {
        return;
    }
    while let Some(node) = NonNull::new(chain) {
        // SAFETY: mapped, and this thread's (I1, I2).
        chain = unsafe { read(node) }.next;
        // SAFETY: as above; what follows it is in `chain`.
        unsafe { push(list, node) };
    }
}

/// # Safety
/// `node` is mapped, and the caller's (I1, I2).
unsafe fn read(node: NonNull<Node>) -> Link {
    // SAFETY: mapped and written, by I1 and I3.
    let this = unsafe { node.as_ref() };
    this.link.with(|link| {
        // SAFETY: nobody else has the node (I2).
        unsafe { *link }
    })
}
