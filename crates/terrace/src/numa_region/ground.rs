//! [`Ground`]: what the frames and the notes of a region lie in.
//!
//! ```text
//!  in steps     addresses  [ notes of node 0 │ its frames ][ notes of node 1 │ its frames ]     memory as it is needed
//!
//!  huge pages   addresses  [ notes of node 0 ][ notes of node 1 ]
//!               one block  [ frames of node 0 ][ frames of node 1 ]                             memory from the beginning
//! ```
//!
//! Huge pages come out of the machine's pool, which keeps some on each node. All nodes' lie in one map, so that one pointer reaches all frames;
//! the kernel promises the whole number for it, and each node's part is touched on that node before anything is handed out: a node without is
//! an error, no signal.
//!
//! - **H1** `start` and `reservation.start` reach what was made of them until this value is dropped; both begin at a multiple of a step.
//!
//! Cost: a map, and for each huge page the time in which the kernel fills it with zeroes.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator};
use terrace_sys::{
    PageOptions, Reservation, TunedPageAllocator, Unavailable,
    numa::{self, NumaUnavailable},
};

use super::{STEP, base::Area};

/// See the top of the file.
pub(super) struct Ground {
    reservation: Reservation,
    huge: Option<Huge>,
}

/// A block of huge pages.
struct Huge {
    block: NonNull<[u8]>,
    alignment: Alignment,
    pages: TunedPageAllocator,
}

// SAFETY: the block is this value's, and may be given back by any thread.
unsafe impl Send for Huge {}
// SAFETY: through a shared reference only its address is read.
unsafe impl Sync for Huge {}

impl Drop for Huge {
    fn drop(&mut self) {
        // SAFETY: live since it was made, and used by nobody any more (H1).
        unsafe { self.pages.free(self.block, self.alignment) };
    }
}

impl Ground {
    /// For areas that become memory in steps.
    pub(super) fn in_steps(areas: &[Area]) -> Result<Self, Unavailable> {
        let len = areas.last().map_or(0, |area| area.end);
        Ok(Self { reservation: reserve(len)?, huge: None })
    }

    /// For areas whose frames are huge pages of `size` bytes, each on the node with that number if any.
    pub(super) fn of_huge_pages(
        areas: &[Area],
        nodes: impl Iterator<Item = Option<usize>> + Clone,
        size: Alignment,
    ) -> Result<Self, Unavailable> {
        let last = areas.last().ok_or(Unavailable::Memory)?;
        let reservation = reserve(last.notes_end)?;
        let len = NonZeroUsize::new(last.end).ok_or(Unavailable::Memory)?;
        let mut parts = areas.iter().zip(nodes).filter(|(area, _)| area.end > area.frames);
        let mut options = PageOptions::new().explicit_huge_pages(size);
        if parts.clone().any(|(_, node)| node.is_none()) {
            options = options.populate(); // Wherever they come from.
        }
        let (pages, alignment) = (options.build(), Alignment::new(STEP).unwrap_or(size));
        let Ok(start) = pages.alloc(len, alignment) else { return Err(who_lacks(options, parts, size)) };
        let huge = Huge { block: NonNull::slice_from_raw_parts(start, len.get()), alignment, pages };
        let ground = Self { reservation, huge: Some(huge) };
        parts.try_for_each(|(area, node)| match node {
            // SAFETY: a part of the block, writable and of nobody yet.
            Some(node) => unsafe { numa::populate_huge_on(ground.range(area), node) }
                .map_err(|why| Unavailable::Node { node, why }),
            None => Ok(()),
        })?;
        Ok(ground)
    }

    /// Where the first frame lies.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.huge.as_ref().map_or(self.reservation.start(), |huge| huge.block.cast())
    }

    /// Bytes from the first frame to the end of the last.
    pub(super) fn capacity(&self) -> usize {
        self.huge.as_ref().map_or(self.reservation.capacity(), |huge| huge.block.len())
    }

    /// Whether all frames are memory from the beginning to the end.
    pub(super) fn is_of_huge_pages(&self) -> bool {
        self.huge.is_some()
    }

    /// The frames of an area.
    fn range(&self, area: &Area) -> NonNull<[u8]> {
        // SAFETY: it lies in what was made for all areas.
        NonNull::slice_from_raw_parts(unsafe { self.start().add(area.frames) }, area.end - area.frames)
    }

    /// Makes memory of addresses that nobody has, notes or a step of frames: on a node, or anywhere.
    pub(super) fn fill(&self, start: usize, len: usize, node: Option<usize>) -> Result<NonNull<u8>, NumaUnavailable> {
        self.reservation.commit(start..start + len).map_err(|AllocError| NumaUnavailable::Memory)?;
        // SAFETY: `commit` has looked that it lies in the reservation.
        let address = unsafe { self.reservation.start().add(start) };
        let pages = NonNull::slice_from_raw_parts(address, len);
        let filled = match node {
            // SAFETY: committed, and by the caller's word of nobody.
            Some(node) => unsafe { numa::populate_on(pages, node) },
            // SAFETY: as above.
            None => unsafe { numa::populate(pages) },
        };
        if filled.is_err() {
            // SAFETY: nobody uses it. Where it is refused it stays committed and empty, and may be committed again.
            let _ = unsafe { self.reservation.decommit(start..start + len) };
        }
        filled.map(|()| address)
    }

    /// Gives what `fill` has made back. `false`: it is memory still, empty or not.
    ///
    /// # Safety
    /// Nobody uses it any more.
    pub(super) unsafe fn empty(&self, start: usize, len: usize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.reservation.decommit(start..start + len) }
    }
}

fn reserve(len: usize) -> Result<Reservation, Unavailable> {
    let len = NonZeroUsize::new(len).ok_or(Unavailable::Memory)?;
    let step = Alignment::new(STEP).ok_or(Unavailable::Memory)?;
    Reservation::with_alignment(len, step).map_err(|AllocError| Unavailable::Memory)
}

/// The first node that has not enough huge pages by itself, or that there are not enough for all.
#[cold]
fn who_lacks<'a>(
    options: PageOptions,
    mut parts: impl Iterator<Item = (&'a Area, Option<usize>)>,
    size: Alignment,
) -> Unavailable {
    if let Err(why @ Unavailable::HugePageSize { .. }) = options.check() {
        return why;
    }
    let lacks = parts.find_map(|(area, node)| {
        let (node, len) = (node?, NonZeroUsize::new(area.end - area.frames)?);
        let pages = options.on_node(node).build();
        let Ok(start) = pages.alloc(len, Alignment::ONE) else { return Some(node) };
        // SAFETY: live, just made.
        unsafe { pages.free(NonNull::slice_from_raw_parts(start, len.get()), Alignment::ONE) };
        None
    });
    let why = |node| Unavailable::Node { node, why: NumaUnavailable::NoHugePages { node } };
    lacks.map_or(Unavailable::HugePages { size }, why)
}
