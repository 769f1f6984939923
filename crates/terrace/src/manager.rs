//! The manager: one allocator for the whole program, configured once, with figures, checks and an end.
//!
//! ```text
//!   manager::allocator() ──▶ Manager ──▶ DebugAllocator ──▶ SmpAllocator ──▶ pages         as a rule
//!   manager::malloc …                 └▶ DebugAllocator ──▶ pages                          with guard_pages
//!
//!   (nothing) ── init(config), or the first block with DebugConfig::new() ──▶ in use ── deinit_unchecked ──▶ (nothing)
//! ```
//!
//! A thin thing: blocks, figures and reports are those of the layers; what is here chooses them, once, and keeps them where every
//! thread finds them. Functions that are handed an allocator need none of this (`docs/migration.md` leads there).
//!
//! | | |
//! |---|---|
//! | [`init`], [`init_with_handler`] | the configuration, before the first block; without it, all checks of [`DebugConfig::new`], and [`features`] says so |
//! | [`allocator`] | the allocator, to be passed on; [`alloc`] and [`free`] for a slice at hand |
//! | [`stats`], [`print_stats`] | eight figures |
//! | [`check_for_leaks`], [`deinit`], [`deinit_unchecked`] | a look; the end; the end of live blocks, too |
//! | [`malloc`], [`calloc`], [`c_realloc`], [`c_free`] | for code that comes from C and knows its sizes |
//! | [`features`] | what is compiled in, found and configured |
//! | [`register`], [`registered`] | allocators of the program's own, by name |
//!
//! ```
//! use terrace::{AllocatorExt, DebugConfig, manager};
//!
//! manager::init(DebugConfig { enable_leak_detection: true, enable_tracking: true, ..DebugConfig::new() })?;
//!
//! let allocator = manager::allocator();
//! let buffer = allocator.alloc_slice::<u8>(1024)?;
//! manager::print_stats(); // 1 block of 1024 bytes, on the standard error stream
//! // SAFETY: live, of this allocator, not used again.
//! unsafe { allocator.free_slice(buffer) };
//!
//! assert_eq!(manager::check_for_leaks().leaks, 0);
//! assert!(manager::deinit().is_clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **M1** What `settled` holds is set once, and stays where it is until `deinit_unchecked`, whose caller is alone.
//! - **M2** No lock is held while a layer, a hook or the caller's code runs (clause 10); to settle calls none of them.
//!
//! Cost: a load and a branch above the layers; [`DebugAllocator`](crate::DebugAllocator) has theirs.

mod c;
mod features;
mod layers;
mod plugins;
#[cfg(test)]
mod tests;

use core::{
    cell::UnsafeCell,
    error::Error,
    fmt,
    num::NonZeroUsize,
    panic::{RefUnwindSafe, UnwindSafe},
    ptr::NonNull,
};
use std::{io::Write, sync::OnceLock};

use terrace_core::{Alignment, AllocError, AllocStats, Allocator, AllocatorExt, Stats, bridge_collections};
use terrace_heap::{
    DebugConfig,
    debug::{Check, Handler, PrintAndAbort},
};

use self::layers::{Layers, each};
pub use self::{
    c::{c_free, c_realloc, calloc, malloc},
    features::{Configured, Features, features},
    plugins::{RegisterError, names, register, registered},
};

/// Prints a mistake, with the functions on the call stack where they can be had, and aborts unless it is a leak.
#[cfg(not(feature = "backtrace"))]
static TELLER: PrintAndAbort = PrintAndAbort;
#[cfg(feature = "backtrace")]
static TELLER: crate::Backtraced<PrintAndAbort> = crate::Backtraced::new(PrintAndAbort);

/// The one of the program.
static MANAGER: Manager = Manager::new();

/// The program's allocator: what [`allocator`] gives a reference to, for any thread, as long as the program runs.
///
/// Collections take the reference:
///
#[cfg_attr(feature = "allocator-api2-02", doc = "```")]
#[cfg_attr(not(feature = "allocator-api2-02"), doc = "```ignore")]
/// use allocator_api2_02::vec::Vec;
///
/// let mut primes = Vec::new_in(terrace::manager::allocator());
/// primes.extend([2, 3, 5, 7]);
/// assert_eq!(primes.len(), 4);
/// ```
pub struct Manager {
    settled: UnsafeCell<OnceLock<Settled>>,
}

/// What the first block, or `init`, has decided.
struct Settled {
    layers: Layers,
    config: DebugConfig,
    configured: Configured,
}

impl Settled {
    fn new<H: Handler + Sync>(config: DebugConfig, handler: &'static H, configured: Configured) -> Self {
        Self { layers: Layers::new(config, handler), config, configured }
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<OnceLock<Settled>>();
};

// SAFETY: what is in the cell may be shared, as asserted above; by M1 it is reached by shared references, but for the one moment
// whose caller promises to be alone.
unsafe impl Sync for Manager {}

// Nothing unwinds out of it (clause 10), so nobody sees it half changed.
impl UnwindSafe for Manager {}
impl RefUnwindSafe for Manager {}

/// Why [`init`] has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError {
    /// It was called before.
    AlreadyInitialized,
    /// The allocator was used before, so with [`DebugConfig::new`].
    InUse,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyInitialized => "the manager is initialised already; call init once, where the program begins",
            Self::InUse => {
                "the manager was used before init, with the default configuration; call init before the first block"
            }
        })
    }
}

impl Error for InitError {}

impl Manager {
    const fn new() -> Self {
        Self { settled: UnsafeCell::new(OnceLock::new()) }
    }

    fn settled(&self) -> &OnceLock<Settled> {
        // SAFETY: by M1 nobody has it exclusively.
        unsafe { &*self.settled.get() }
    }

    /// The layers, with the default configuration where nobody has said otherwise.
    #[inline]
    fn layers(&self) -> &Layers {
        match self.settled().get() {
            Some(settled) => &settled.layers,
            None => self.settle_by_default(),
        }
    }

    #[cold]
    fn settle_by_default(&self) -> &Layers {
        let by_default = || Settled::new(DebugConfig::new(), &TELLER, Configured::ByDefault);
        &self.settled().get_or_init(by_default).layers
    }

    fn init<H: Handler + Sync>(&self, config: DebugConfig, handler: &'static H) -> Result<(), InitError> {
        let mut done = false;
        let settled = self.settled().get_or_init(|| {
            done = true;
            Settled::new(config, handler, Configured::ByInit)
        });
        match settled.configured {
            _ if done => Ok(()),
            Configured::ByInit => Err(InitError::AlreadyInitialized),
            Configured::ByDefault | Configured::NotYet => Err(InitError::InUse),
        }
    }

    fn configured(&self) -> (Configured, DebugConfig) {
        match self.settled().get() {
            Some(settled) => (settled.configured, settled.config),
            None => (Configured::NotYet, DebugConfig::new()),
        }
    }

    #[track_caller]
    fn check_for_leaks(&self) -> Check {
        match self.settled().get() {
            Some(settled) => each!(&settled.layers, debug => debug.check_for_leaks()),
            None => Check::default(),
        }
    }

    #[track_caller]
    fn deinit(&self) -> Check {
        let check = self.check_for_leaks();
        if let Some(settled) = self.settled().get() {
            settled.layers.trim();
        }
        check
    }

    /// # Safety
    /// As [`deinit_unchecked`].
    #[track_caller]
    unsafe fn deinit_unchecked(&self) -> Check {
        let check = self.check_for_leaks();
        // SAFETY: the caller is alone, so no reference to what is inside is left.
        let settled = unsafe { &mut *self.settled.get() }.take();
        if let Some(settled) = settled {
            settled.layers.end();
        }
        check
    }

    fn write_stats(&self, out: &mut impl Write) -> std::io::Result<()> {
        let AllocStats {
            total_allocations,
            total_deallocations,
            current_allocations,
            peak_allocations,
            bytes_allocated,
            bytes_deallocated,
            current_bytes,
            peak_bytes,
        } = self.stats();
        let (configured, config) = self.configured();
        writeln!(out, "terrace: memory, {configured}")?;
        if !config.enable_tracking && config.memory_limit.is_none() {
            writeln!(out, "  not counted: enable_tracking is off")?;
        }
        for (name, blocks, bytes_name, bytes) in [
            ("total_allocations", total_allocations, "bytes_allocated", bytes_allocated),
            ("total_deallocations", total_deallocations, "bytes_deallocated", bytes_deallocated),
            ("current_allocations", current_allocations, "current_bytes", current_bytes),
            ("peak_allocations", peak_allocations, "peak_bytes", peak_bytes),
        ] {
            writeln!(out, "  {name:<19} {blocks:>12}   {bytes_name:<17} {bytes:>16}")?;
        }
        Ok(())
    }
}

// SAFETY: every call is the layers', unchanged; by M1 they are the same from a block's beginning to its end.
unsafe impl Allocator for Manager {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        each!(self.layers(), debug => debug.alloc(len, alignment))
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged; one of the two is called.
        each!(self.layers(), debug => unsafe { debug.resize(memory, alignment, new_len) })
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: as above.
        each!(self.layers(), debug => unsafe { debug.remap(memory, alignment, new_len) })
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: as above.
        each!(self.layers(), debug => unsafe { debug.free(memory, alignment) })
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        each!(self.layers(), debug => debug.alloc_zeroed(len, alignment))
    }
}

impl Stats for Manager {
    fn stats(&self) -> AllocStats {
        match self.settled().get() {
            Some(settled) => each!(&settled.layers, debug => debug.stats()),
            None => AllocStats::default(),
        }
    }
}

bridge_collections!(impl[] for Manager);

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (configured, config) = self.configured();
        f.debug_struct("Manager").field("configured", &configured).field("config", &config).finish_non_exhaustive()
    }
}

/// Configures the manager. Mistakes are printed, and all but leaks abort the program.
///
/// It is called once, before the first block: what is in use cannot be changed under its blocks.
///
/// # Errors
/// [`InitError`] where that moment is over; nothing has changed, and the configuration in use is that of [`features`].
pub fn init(config: DebugConfig) -> Result<(), InitError> {
    init_with_handler(config, &TELLER)
}

/// As [`init`], with a handler of your own, which is told of every mistake: one that collects them, say, or logs.
///
/// # Errors
/// As [`init`].
///
/// ```
/// use terrace::{DebugConfig, debug::Print, manager};
///
/// manager::init_with_handler(DebugConfig::new(), &Print)?; // prints, and goes on
/// # Ok::<(), manager::InitError>(())
/// ```
pub fn init_with_handler<H: Handler + Sync>(config: DebugConfig, handler: &'static H) -> Result<(), InitError> {
    MANAGER.init(config, handler)
}

/// The program's allocator.
///
/// Where [`init`] was not called, the first block settles the configuration: [`DebugConfig::new`], with every check that needs no
/// pages of its own. Nothing is printed about it; [`features`] and [`print_stats`] tell.
pub const fn allocator() -> &'static Manager {
    &MANAGER
}

/// `n` items of the program's allocator, uninitialised: `allocator().alloc_slice(n)`.
///
/// # Errors
/// [`AllocError`] where there is no memory.
///
/// ```
/// use terrace::manager;
///
/// let numbers = manager::alloc::<u32>(100)?;
/// // SAFETY: live, of the manager, not used again.
/// unsafe { manager::free(numbers) };
/// # Ok::<(), terrace::AllocError>(())
/// ```
#[track_caller]
pub fn alloc<T>(n: usize) -> Result<NonNull<[T]>, AllocError> {
    MANAGER.alloc_slice(n)
}

/// Ends a slice of [`alloc`]: `allocator().free_slice(slice)`.
///
/// # Safety
/// `slice` is live, of the manager, with the length that it was made with, and not used again.
#[track_caller]
pub unsafe fn free<T>(slice: NonNull<[T]>) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { MANAGER.free_slice(slice) };
}

/// What was allocated so far. All zero before the first block, and where neither
/// [`enable_tracking`](DebugConfig::enable_tracking) nor a memory limit is asked for.
pub fn stats() -> AllocStats {
    MANAGER.stats()
}

/// Prints [`stats`] to the standard error stream, with the configuration that they were counted under.
pub fn print_stats() {
    // To a closed stream nothing can be said.
    let _ = MANAGER.write_stats(&mut std::io::stderr().lock());
}

/// Reports every block that is live to the handler, and every write past an end or after a free that shows by now. It ends nothing,
/// and frees nothing: all goes on as before.
///
/// Leaks are told where [`enable_leak_detection`](DebugConfig::enable_leak_detection) is on. Cost: a look at each block.
///
/// ```
/// use terrace::manager;
///
/// let word = manager::alloc::<u8>(3)?;
/// if manager::check_for_leaks().leaks > 0 {
///     manager::print_stats(); // after `terrace: leak of 3 bytes at 0x…, block 1; allocated src/main.rs:3:12 …`
/// }
/// # unsafe { manager::free(word) };
/// # Ok::<(), terrace::AllocError>(())
/// ```
#[track_caller]
pub fn check_for_leaks() -> Check {
    MANAGER.check_for_leaks()
}

/// The end of the program's use of it: reports as [`check_for_leaks`] does, and gives back to the system what is free. A live block
/// stays where it is, readable and writable, and can still be freed: a destructor that runs later, or another thread, is safe.
///
/// The manager stays in use, with its configuration.
#[track_caller]
pub fn deinit() -> Check {
    MANAGER.deinit()
}

/// As [`deinit`], and then ends every live block and gives all memory back. The manager is as before [`init`], which may be called again.
///
/// # Safety
/// No other thread calls the manager, or its [`allocator`], at the same time, and no hook of this call does; no block of it is used, or
/// freed, afterwards, so no collection in it is alive.
#[track_caller]
pub unsafe fn deinit_unchecked() -> Check {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { MANAGER.deinit_unchecked() }
}
