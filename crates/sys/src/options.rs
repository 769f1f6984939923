//! [`PageOptions`]: what a page allocator may be told beside length and alignment, and whether this machine has it.
//!
//! Options are set by the program, never by environment variables: a library that asked for guard pages gets them.
//! Some are orders, refused where they cannot be carried out; others are wishes (transparent huge pages, a name),
//! which change nothing but speed or what a tool shows, and are passed over in silence. [`PageOptions::check`]
//! breaks the silence.
#![forbid(unsafe_code)]

use core::{error::Error, ffi::CStr, fmt};

use terrace_core::Alignment;

use crate::TunedPageAllocator;
#[cfg(feature = "std")]
use crate::numa::NumaUnavailable;

/// The options of a [`TunedPageAllocator`]: a builder.
///
/// ```
/// use terrace_core::AllocatorExt;
/// use terrace_sys::PageOptions;
///
/// let pages = PageOptions::new().guard_pages().name(c"frame buffer").build();
/// let pixels = pages.alloc_slice_zeroed::<u32>(640 * 480)?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { pages.free_slice(pixels) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// Why the machine refuses, where it does:
///
/// ```
/// use terrace_core::Alignment;
/// use terrace_sys::{PageOptions, Unavailable};
///
/// let huge = Alignment::new(2 << 20).unwrap();
/// match PageOptions::new().explicit_huge_pages(huge).check() {
///     Ok(()) => println!("there is a huge page at least"),
///     Err(why @ Unavailable::HugePages { .. }) => assert!(why.to_string().contains("nr_hugepages")),
///     Err(why) => println!("{why}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageOptions {
    pub(crate) huge: Huge,
    pub(crate) populate: bool,
    pub(crate) guards: bool,
    pub(crate) name: Option<&'static CStr>,
    #[cfg(feature = "std")]
    pub(crate) node: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Huge {
    #[default]
    No,
    Transparent,
    /// Transparent where a block has grown to so many bytes.
    Grown(usize),
    Explicit(Alignment),
}

impl PageOptions {
    /// None: blocks are as those of [`PageAllocator`](crate::PageAllocator).
    pub const fn new() -> Self {
        Self {
            huge: Huge::No,
            populate: false,
            guards: false,
            name: None,
            #[cfg(feature = "std")]
            node: None,
        }
    }

    /// A wish: where the system can, it backs blocks by huge pages, and goes on with ordinary ones where it cannot.
    /// A block as large as a huge page begins at a multiple of its size, until it moves.
    ///
    /// Linux: `madvise(MADV_HUGEPAGE)`. Takes the place of [`explicit_huge_pages`](Self::explicit_huge_pages).
    #[must_use]
    pub const fn transparent_huge_pages(mut self) -> Self {
        self.huge = Huge::Transparent;
        self
    }

    /// A wish: the pages by which a block grows to `least` bytes or more are huge. Who lets a block grow has mostly filled it so far, and goes
    /// on; a block that is large from the beginning may be used here and there, where a huge page would be held for each byte.
    ///
    /// Linux: `madvise(MADV_HUGEPAGE)` of the whole block when it has grown, for a map with two kinds of pages could not grow again: what
    /// was touched before stays in small pages, until the system joins them. Takes the place of the other two.
    ///
    /// ```
    /// use core::num::NonZeroUsize;
    /// use terrace_core::{Alignment, Allocator};
    /// use terrace_sys::PageOptions;
    ///
    /// let pages = PageOptions::new().huge_pages_where_grown(8 << 20).build();
    /// let block = pages.alloc(NonZeroUsize::new(1 << 20).unwrap(), Alignment::ONE);
    /// # let block = core::ptr::NonNull::slice_from_raw_parts(block.unwrap(), 1 << 20);
    /// # unsafe { pages.free(block, Alignment::ONE) };
    /// ```
    #[must_use]
    pub const fn huge_pages_where_grown(mut self, least: usize) -> Self {
        self.huge = Huge::Grown(least);
        self
    }

    /// An order: blocks are of huge pages of `size` bytes, out of the pool that the machine keeps for them, and of
    /// nothing else. An `alloc` for which the pool has not enough is refused; what is granted can be touched.
    /// Lengths are rounded up to `size`. Blocks shrink in place and never grow. An alignment above `size` takes as
    /// much more out of the pool for a moment.
    ///
    /// Linux: `MAP_HUGETLB`, with the pages reserved. A forked child that writes to such a block copies a huge
    /// page; where the pool is empty then, the child ends with SIGBUS. Takes the place of
    /// [`transparent_huge_pages`](Self::transparent_huge_pages).
    #[must_use]
    pub const fn explicit_huge_pages(mut self, size: Alignment) -> Self {
        self.huge = Huge::Explicit(size);
        self
    }

    /// An order: every page of a block is in memory before the block is handed out or has grown; where there is no
    /// memory, that is refused, and no later touch of the block faults. A block grows in place or not at all.
    ///
    /// Linux: `madvise(MADV_POPULATE_WRITE)`, since 5.14. What is in memory may be swapped out later.
    #[must_use]
    pub const fn populate(mut self) -> Self {
        self.populate = true;
        self
    }

    /// An order: before and behind each block's pages lies a page that nobody can touch; a program that does ends
    /// with a fault. (The bytes between a block's length and the end of its last page can be touched.) With
    /// explicit huge pages a guard is a huge page, which counts against the pool.
    ///
    /// A guarded block keeps its pages: [`resize`](terrace_core::Allocator::resize) grants what fits into them and
    /// refuses the rest, since moving a guard takes several calls of which the last may fail.
    #[must_use]
    pub const fn guard_pages(mut self) -> Self {
        self.guards = true;
        self
    }

    /// An order: every page of a block is in memory, on the node with that number, before the block is handed out. Where the node has no
    /// room, that is refused: with explicit huge pages too, whose pool is one for all nodes. A block shrinks in place and never grows.
    ///
    /// Linux: `mbind`, `madvise(MADV_POPULATE_WRITE)`, `move_pages`; see [`numa::populate_on`](crate::numa::populate_on).
    ///
    /// ```
    /// use terrace_sys::PageOptions;
    ///
    /// match PageOptions::new().on_node(0).check() {
    ///     Ok(()) => println!("node 0 has a page left"),
    ///     Err(why) => println!("{why}"),
    /// }
    /// ```
    #[cfg(feature = "std")]
    #[must_use]
    pub const fn on_node(mut self, node: usize) -> Self {
        self.node = Some(node);
        self
    }

    /// A wish: the blocks have this name in `/proc/PID/maps`, as `[anon:name]`. At most 79 printable bytes, none of
    /// them `[`, `]`, `\`, `$` or a backtick.
    ///
    /// Linux: `prctl(PR_SET_VMA_ANON_NAME)`, where the kernel has `CONFIG_ANON_VMA_NAME` (since 5.17). Explicit
    /// huge pages have a name already.
    #[must_use]
    pub const fn name(mut self, name: &'static CStr) -> Self {
        self.name = Some(name);
        self
    }

    /// The allocator with these options.
    pub const fn build(self) -> TunedPageAllocator {
        TunedPageAllocator { options: self }
    }

    /// Whether this machine, now, carries out all of the options, the wishes too: maps the smallest block, and
    /// unmaps it.
    ///
    /// # Errors
    /// The first option that it does not carry out, with the remedy.
    pub fn check(self) -> Result<(), Unavailable> {
        self.build().try_out()
    }
}

/// What this machine does not carry out, and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The pool of huge pages of this size has not enough.
    HugePages {
        /// The size of such a page.
        size: Alignment,
    },
    /// The machine has no huge pages of this size.
    HugePageSize {
        /// The size asked for.
        size: Alignment,
    },
    /// The kernel has no transparent huge pages.
    TransparentHugePages,
    /// The node has no room, is not there, or the kernel does not say where pages lie.
    #[cfg(feature = "std")]
    Node {
        /// Its number.
        node: usize,
        /// Why not.
        why: NumaUnavailable,
    },
    /// The kernel cannot bring pages into memory at once.
    Populate,
    /// The kernel has no names for maps, or does not take this one.
    Name,
    /// There is not enough memory, or address space, or the process has as many maps as it may.
    Memory,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HugePages { size } => write!(
                f,
                "too few huge pages of {0} KiB are free; their number is set in /proc/sys/vm/nr_hugepages, or, for \
                 another size than the default, in /sys/kernel/mm/hugepages/hugepages-{0}kB/nr_hugepages",
                size.bytes() >> 10
            ),
            Self::HugePageSize { size } => write!(
                f,
                "this machine has no huge pages of {} bytes; /sys/kernel/mm/hugepages lists the sizes that it has",
                size.bytes()
            ),
            Self::TransparentHugePages => f.write_str(
                "this kernel has no transparent huge pages (CONFIG_TRANSPARENT_HUGEPAGE), or a limit forbids them",
            ),
            #[cfg(feature = "std")]
            Self::Node { node, why } => write!(f, "no block can lie on node {node}: {why}"),
            Self::Populate => f.write_str("this kernel cannot populate a map with an error (Linux 5.14 can)"),
            Self::Name => f.write_str(
                "this kernel has no names for maps (Linux 5.17 with CONFIG_ANON_VMA_NAME has), or the name is too \
                 long or holds a character that it refuses",
            ),
            Self::Memory => f.write_str("the system has no memory, no addresses or no maps left for this process"),
        }
    }
}

impl Error for Unavailable {}
