//! [`Monitor`]: watches any allocator while a program runs.
//!
//! ```text
//!   program ──▶ Monitor (top) ──▶ layer ──▶ Monitor (backing) ──▶ memory
//!                  │                            │
//!               shadow: overlap, length,     shadow: what goes back is
//!               alignment, contents          what came (clause 11)
//! ```
//!
//! A transparent layer: pointers pass through as they are. It keeps the live blocks in a shadow of its own,
//! never in the memory that it watches. Each breach is told to a [`Handler`] as a value. A call that names a
//! block which is not live is told and *not* passed on: below it would be undefined behaviour. So the worst
//! that a broken layer does over a monitor is to leak.
//!
//! - **I1** The shadow's blocks are those that `backing` handed out, less those that were ended, and less those
//!   that are under way in a call: a block leaves the shadow before the backing can hand its bytes out again.
//! - **I2** No lock is held while `backing` or the handler runs.
//!
//! Costs: a lock and a tree step a call; up to 1 MiB of a block is filled when it is handed out, and copied
//! and compared around `resize` and `remap`. It takes its own memory from the global allocator: do not put it
//! under `#[global_allocator]`.

use std::{
    fmt,
    num::NonZeroUsize,
    panic::Location,
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Decommit, GoodSize, Owns, PageSize, Reset, ResetMode, Stats,
};

use crate::{
    breach::{Block, Breach, Finding, Handler, Reports, Role},
    contents::{Snapshot, fill, first_not_zero},
    shadow::Shadow,
};

/// No address space has room for more, so whoever grants it lies, and its memory must not be touched.
const LONGEST: usize = isize::MAX as usize / 2;

/// Passes every call to `backing` and reports each breach of the contract; see the [module](crate::monitor).
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_testkit::Monitor;
///
/// let watched = Monitor::new(SystemAllocator);
/// let word = watched.dupe(b"red")?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { watched.free_slice(word) };
/// watched.assert_clean();
/// assert!(watched.live().is_empty());
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct Monitor<A, H: Handler = Reports> {
    shadow: Mutex<Shadow>,
    handler: H,
    role: Role,
    made_at: &'static Location<'static>,
    /// A sum over what all backings of one program hold, changed by each block that comes and goes. A monitor on
    /// top only reads it.
    holdings: Arc<AtomicU64>,
    in_use: bool,
    backing: A,
}

impl<A> Monitor<A> {
    /// Watches `backing` for a program, and keeps the breaches.
    #[track_caller]
    pub fn new(backing: A) -> Self {
        Self::with_handler(backing, Role::Top, Reports::default())
    }

    /// To be the backing of a layer under test: what that layer does wrong here breaks clause 11. When the
    /// monitor is dropped, each block that has not come back is a breach.
    #[track_caller]
    pub fn backing(backing: A) -> Self {
        Self::with_handler(backing, Role::Backing, Reports::default())
    }

    /// The list of breaches, which outlives the monitor.
    pub fn reports(&self) -> Reports {
        self.handler.clone()
    }

    /// The breaches so far.
    pub fn breaches(&self) -> Vec<Breach> {
        self.handler.breaches()
    }

    /// For the end of a test.
    ///
    /// # Panics
    /// With the text of each breach, where there was one.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.handler.assert_clean();
    }
}

impl<A, H: Handler> Monitor<A, H> {
    /// Watches `backing` and tells `handler` of each breach.
    #[track_caller]
    pub fn with_handler(backing: A, role: Role, handler: H) -> Self {
        Self::counted_in(Arc::default(), backing, role, handler)
    }

    #[track_caller]
    pub(crate) fn counted_in(holdings: Arc<AtomicU64>, backing: A, role: Role, handler: H) -> Self {
        Self { shadow: Mutex::default(), handler, role, made_at: Location::caller(), holdings, in_use: false, backing }
    }

    /// For a layer whose other threads use a block while it is resized, as clause 4 lets them: the bytes are not
    /// looked at around the call.
    pub fn bytes_in_use(mut self, in_use: bool) -> Self {
        self.in_use = in_use;
        self
    }

    /// The blocks that are live now: at the end of a program, its leaks.
    pub fn live(&self) -> Vec<Block> {
        self.shadow().blocks().collect()
    }

    fn shadow(&self) -> MutexGuard<'_, Shadow> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, finding: Finding, site: &'static Location<'static>) {
        let abort = AbortOnUnwind;
        self.handler.breach(&Breach::new(finding, self.role, site));
        std::mem::forget(abort);
    }

    /// Reports where the call that follows unwinds, which dropping this guard early shows.
    fn watch(&self, call: &'static str, site: &'static Location<'static>) -> Watch<'_, A, H> {
        Watch { monitor: self, call, site }
    }

    /// Notes a block; `false` where it lies over another, and then it must not be touched.
    fn put(&self, block: Block, site: &'static Location<'static>) -> bool {
        let noted = self.shadow().put(block);
        if let Err(other) = noted {
            self.report(Finding::Overlap { block, other }, site);
            return false;
        }
        self.count(mixed(block));
        true
    }

    /// Strikes out a block that a call names; `false` where it is not live so.
    fn take(&self, block: Block, site: &'static Location<'static>) -> bool {
        let struck = self.shadow().take(block);
        if let Err(finding) = struck {
            self.report(finding, site);
            return false;
        }
        self.count(mixed(block).wrapping_neg());
        true
    }

    fn count(&self, change: u64) {
        if self.role == Role::Backing {
            self.holdings.fetch_add(change, SeqCst);
        }
    }

    /// # Safety
    /// `memory` is live, and nobody writes to it meanwhile, but where that was [said](Self::bytes_in_use).
    unsafe fn before(&self, memory: NonNull<[u8]>, new_len: usize) -> Before {
        let bytes = match self.in_use {
            true => Snapshot::default(),
            // SAFETY: the caller's promise, passed on unchanged.
            false => unsafe { Snapshot::take(memory, new_len) },
        };
        let held = (self.role == Role::Top).then(|| self.holdings.load(SeqCst));
        Before { start: memory.cast(), bytes, held }
    }

    /// Looks at a block that was handed out just now; `false` where it must not be touched.
    fn admit(&self, block: Block, site: &'static Location<'static>) -> bool {
        let fits = block.len <= LONGEST;
        if !fits {
            self.report(Finding::TooLong { block }, site);
        }
        if !block.alignment.is_aligned(block.address) {
            self.report(Finding::Misaligned { block }, site);
        }
        fits && self.put(block, site)
    }

    /// What remains to do after a granted resize or remap of `old` to `new` at `start`.
    fn moved(&self, before: &Before, old: Block, new: Block, start: NonNull<u8>, site: &'static Location<'static>) {
        if !self.admit(new, site) {
            return;
        }
        let kept = old.len.min(new.len);
        // SAFETY: just granted with `new.len` bytes, over no live block.
        if let Some(offset) = unsafe { before.bytes.first_change(start, kept) } {
            self.report(Finding::LostContents { block: new, offset }, site);
        }
        if new.len > old.len {
            // SAFETY: as above; the bytes behind the old ones are nobody's yet.
            unsafe { fill(start, old.len, new.len) };
        }
    }

    /// What remains to do after a refusal. Where the backings hold other blocks than before, this one may be among
    /// them and gone, and is not looked at.
    fn refused(&self, before: &Before, block: Block, site: &'static Location<'static>) {
        if !self.put(block, site) {
            return;
        }
        if before.held.is_some_and(|held| held != self.holdings.load(SeqCst)) {
            return self.report(Finding::RefusalChangedBacking, site);
        }
        // SAFETY: live as before, by clause 3.
        if let Some(offset) = unsafe { before.bytes.first_change(before.start, block.len) } {
            self.report(Finding::RefusalChangedBlock { block, offset }, site);
        }
    }
}

/// How things were before a resize or a remap.
struct Before {
    start: NonNull<u8>,
    bytes: Snapshot,
    /// What the backings held, where that is known to be nobody else's doing.
    held: Option<u64>,
}

/// Spreads a block over 64 bits, so that sums of different sets differ.
fn mixed(block: Block) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for word in [block.address as u64, block.len as u64, u64::from(block.alignment.log2())] {
        state = (state ^ word).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state ^= state >> 31;
    }
    state
}

struct Watch<'a, A, H: Handler> {
    monitor: &'a Monitor<A, H>,
    call: &'static str,
    site: &'static Location<'static>,
}

impl<A, H: Handler> Watch<'_, A, H> {
    fn calm(self) {
        std::mem::forget(self);
    }
}

impl<A, H: Handler> Drop for Watch<'_, A, H> {
    fn drop(&mut self) {
        self.monitor.report(Finding::Unwound { call: self.call }, self.site);
    }
}

/// A panic while this is dropped by another panic aborts (clause 10).
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        panic!("the handler of a Monitor panicked; an allocator cannot unwind");
    }
}

// SAFETY: blocks are `backing`'s own, and every call that keeps the contract reaches it unchanged; those that
// break it are refused, or leak.
unsafe impl<A: Allocator, H: Handler> Allocator for Monitor<A, H> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let site = Location::caller();
        let watch = self.watch("alloc", site);
        let result = self.backing.alloc(len, alignment);
        watch.calm();
        let block = result?;
        if self.admit(Block { address: block.addr().get(), len: len.get(), alignment }, site) {
            // SAFETY: just handed out, over no live block.
            unsafe { fill(block, 0, len.get()) };
        }
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let site = Location::caller();
        let (old, start) = (Block::of(memory, alignment), memory.cast());
        if !self.take(old, site) {
            return false;
        }
        // SAFETY: live by the shadow; the caller's for the length of this call.
        let before = unsafe { self.before(memory, new_len.get()) };
        // What is cut off may be another's as soon as the backing is asked (I1); the rest stays.
        let rest = Block { len: old.len.min(new_len.get()), ..old };
        self.put(rest, site);
        let watch = self.watch("resize", site);
        // SAFETY: live, as the shadow says too.
        let granted = unsafe { self.backing.resize(memory, alignment, new_len) };
        watch.calm();
        self.take(rest, site);
        if granted {
            self.moved(&before, old, Block { len: new_len.get(), ..old }, start, site);
        } else {
            self.refused(&before, old, site);
        }
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let site = Location::caller();
        let old = Block::of(memory, alignment);
        if !self.take(old, site) {
            return None;
        }
        // SAFETY: live by the shadow; the caller's for the length of this call.
        let before = unsafe { self.before(memory, new_len.get()) };
        let watch = self.watch("remap", site);
        // SAFETY: live, as the shadow says too.
        let result = unsafe { self.backing.remap(memory, alignment, new_len) };
        watch.calm();
        match result {
            Some(start) => {
                let new = Block { address: start.addr().get(), len: new_len.get(), alignment };
                self.moved(&before, old, new, start, site);
            }
            None => self.refused(&before, old, site),
        }
        result
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let site = Location::caller();
        if self.take(Block::of(memory, alignment), site) {
            let watch = self.watch("free", site);
            // SAFETY: live, as the shadow says too; given up by the caller.
            unsafe { self.backing.free(memory, alignment) };
            watch.calm();
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let site = Location::caller();
        let watch = self.watch("alloc_zeroed", site);
        let result = self.backing.alloc_zeroed(len, alignment);
        watch.calm();
        let start = result?;
        let block = Block { address: start.addr().get(), len: len.get(), alignment };
        if self.admit(block, site)
            // SAFETY: just handed out, over no live block, and initialised or a breach.
            && let Some(offset) = unsafe { first_not_zero(start, len.get()) }
        {
            self.report(Finding::NotZero { block, offset }, site);
        }
        Ok(start)
    }
}

// SAFETY: the monitor's blocks are exactly its backing's, whose answer this is.
unsafe impl<A: Owns, H: Handler> Owns for Monitor<A, H> {
    #[track_caller]
    fn owns(&self, address: NonNull<u8>) -> bool {
        let answer = self.backing.owns(address);
        let live = self.shadow().around(address.addr().get()).is_some();
        if live && !answer {
            self.report(Finding::NotOwned { address: address.addr().get() }, Location::caller());
        }
        answer
    }
}

// SAFETY: the monitor adds no bytes to a request.
unsafe impl<A: GoodSize, H: Handler> GoodSize for Monitor<A, H> {
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        self.backing.good_size(len, alignment)
    }
}

// SAFETY: the monitor's blocks are exactly its backing's.
unsafe impl<A: PageSize, H: Handler> PageSize for Monitor<A, H> {
    fn page_size(&self) -> Alignment {
        self.backing.page_size()
    }
}

// SAFETY: the monitor's blocks are exactly its backing's, which does the work.
unsafe impl<A: Decommit, H: Handler> Decommit for Monitor<A, H> {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.decommit(pages) }
    }
}

impl<A: BulkFree, H: Handler> BulkFree for Monitor<A, H> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        let site = Location::caller();
        let known = |&&memory: &&NonNull<[u8]>| self.take(Block::of(memory, alignment), site);
        let known: Vec<NonNull<[u8]>> = blocks.iter().filter(known).copied().collect();
        let watch = self.watch("bulk_free", site);
        // SAFETY: live, as the shadow says too; given up by the caller.
        unsafe { self.backing.bulk_free(&known, alignment) };
        watch.calm();
    }
}

impl<A: Reset, H: Handler> Reset for Monitor<A, H> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.forget_all();
        self.backing.reset(mode)
    }
}

impl<A, H: Handler> Monitor<A, H> {
    fn forget_all(&self) {
        let mut shadow = self.shadow();
        let gone = shadow.blocks().map(mixed).fold(0, u64::wrapping_add);
        shadow.clear();
        self.count(gone.wrapping_neg());
    }
}

impl<A: Stats, H: Handler> Stats for Monitor<A, H> {
    fn stats(&self) -> AllocStats {
        self.backing.stats()
    }
}

impl<A, H: Handler> Drop for Monitor<A, H> {
    fn drop(&mut self) {
        if self.role == Role::Backing {
            for block in self.live() {
                self.report(Finding::NotReturned { block }, self.made_at);
            }
        }
        // In the sum of a program, what died with its monitor is no longer held.
        self.forget_all();
    }
}

impl<A: fmt::Debug, H: Handler> fmt::Debug for Monitor<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.shadow().blocks().count();
        f.debug_struct("Monitor").field("live", &live).field("backing", &self.backing).finish_non_exhaustive()
    }
}
