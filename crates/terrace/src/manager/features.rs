//! [`features`]: what is compiled in, what this machine has, and how the manager is configured.
#![forbid(unsafe_code)]

use core::fmt;

use terrace_core::PageSize;
use terrace_heap::DebugConfig;
use terrace_memops::Level;
use terrace_sync::Slots;
use terrace_sys::{PageAllocator, ThreadSlots};

use super::MANAGER;

/// Who has configured the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Configured {
    /// Nobody: neither [`init`](super::init) was called nor a block made.
    NotYet,
    /// The first block, since [`init`](super::init) was not called before it: [`DebugConfig::new`].
    ByDefault,
    /// [`init`](super::init).
    ByInit,
}

impl fmt::Display for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotYet => "not used so far",
            Self::ByDefault => "configured by default: init was not called before the first block",
            Self::ByInit => "configured by init",
        })
    }
}

/// What [`features`] tells.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Features {
    /// Compiled in: our allocators under the collections that speak allocator-api2 0.2.
    pub allocator_api2_02: bool,
    /// Compiled in: the functions on the call stack in reports.
    pub backtrace: bool,
    /// Compiled in: operations on bytes and bitmaps with vector registers, in [`memops`](crate::memops).
    pub enable_simd: bool,
    /// Found: the registers that they use on this machine.
    pub simd: Level,
    /// Found: the bytes of a page.
    pub page_size: usize,
    /// Found: how many threads may have a place of their own at the same time.
    pub thread_slots: usize,
    /// Who configured the manager,
    pub configured: Configured,
    /// and how: what holds, or would hold from the first block on.
    pub config: DebugConfig,
}

impl Features {
    /// Whether this machine has vector registers that this build can use.
    pub fn has_simd_support(&self) -> bool {
        self.simd != Level::Portable
    }
}

/// What is compiled in, what was found at run time, and how the manager is configured.
///
/// ```
/// use terrace::manager::{self, Configured};
///
/// assert_eq!(manager::features().configured, Configured::NotYet);
/// println!("{}", manager::features());
/// ```
pub fn features() -> Features {
    let (configured, config) = MANAGER.configured();
    Features {
        allocator_api2_02: cfg!(feature = "allocator-api2-02"),
        backtrace: cfg!(feature = "backtrace"),
        enable_simd: terrace_memops::features().compiled().any(|level| level != Level::Portable),
        simd: terrace_memops::features().used(),
        page_size: PageAllocator.page_size().bytes(),
        thread_slots: ThreadSlots.count(),
        configured,
        config,
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allocator_api2_02, backtrace, enable_simd, simd, page_size, thread_slots, configured, config } =
            self;
        let yes = |is: bool| if is { "yes" } else { "no" };
        writeln!(f, "manager        {configured}")?;
        writeln!(
            f,
            "  looks for    leaks {}, counts {}",
            yes(config.enable_leak_detection),
            yes(config.enable_tracking)
        )?;
        writeln!(f, "  checks       {}, guard pages {}", yes(config.enable_safety), yes(config.guard_pages))?;
        let [api2, backtrace, simd_in] = [*allocator_api2_02, *backtrace, *enable_simd].map(yes);
        writeln!(f, "compiled in    allocator-api2 0.2 {api2}, backtraces {backtrace}, SIMD {simd_in}")?;
        write!(f, "machine        SIMD by {simd:?}, pages of {page_size} bytes, places for {thread_slots} threads")
    }
}
