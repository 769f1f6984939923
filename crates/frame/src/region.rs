//! [`Region`]: frames handed out as bytes, over a mapping that the caller vouches for.
//!
//! ```text
//!  frames    first       first + 1                     the allocator's span
//!  memory    ▼ 4096      ▼ 4096                   ▼
//!            [ a block of bytes    ][            ][   ]
//!            base                                        address = base + 4096 × (frame - first)
//! ```
//!
//! - **R1** For each frame that `frames` has handed out, the 4096 bytes at its place are memory that is this region's, all
//!   under the provenance of `base`.
//! - **R2** A block of `len` bytes is a run of `len / 4096` frames, rounded up, that `frames` has handed out.
//! - **R3** `base` is a multiple of 4096.
//!
//! A block shrinks in place by freeing its tail, and grows in place where the frames behind it are free, if the
//! allocator knows no boundaries. Alignments above 4096 are those of frame numbers: one that does not fall on addresses
//! of the same alignment is refused, so number the frames by their virtual address where large alignments matter.
//!
//! Cost: that of `frames`, and some arithmetic.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns, PageSize};

use crate::{
    allocator::{FrameAllocator, Request},
    types::{FRAME_BYTES, Frame, FrameError, Frames},
};

const BYTES: usize = FRAME_BYTES as usize;

/// An allocator of bytes out of frames.
///
/// ```
/// use core::num::NonZeroUsize;
/// use terrace_core::{Alignment, Allocator, SystemAllocator};
/// use terrace_frame::{Frame, Frames, HybridAllocator, MemoryMap, Region};
///
/// const BYTES: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();
/// let page = Alignment::new(4096).unwrap();
/// let memory = SystemAllocator.alloc(BYTES, page)?;
///
/// let map = MemoryMap::of(Frames::new(0, 256)).unwrap();
/// let mut metadata = [0; HybridAllocator::metadata_bytes(256, 0) / 8];
/// let frames = HybridAllocator::new(&map, &mut metadata).unwrap();
/// // SAFETY: 256 frames of memory that nobody else uses.
/// let region = unsafe { Region::new(memory, frames) }.unwrap();
/// let block = region.alloc(NonZeroUsize::new(10_000).unwrap(), Alignment::of::<u64>())?;
/// // SAFETY: it is live.
/// unsafe { region.free(NonNull::slice_from_raw_parts(block, 10_000), Alignment::of::<u64>()) };
/// # use core::ptr::NonNull;
/// # drop(region);
/// # // SAFETY: it is live, and the region is gone.
/// # unsafe { SystemAllocator.free(NonNull::slice_from_raw_parts(memory, 1 << 20), page) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Region<F> {
    base: NonNull<u8>,
    first: usize,
    frames: F,
}

// SAFETY: by R1 the memory is this region's alone, so it goes where the allocator of its frames may go.
unsafe impl<F: Send> Send for Region<F> {}
// SAFETY: a shared region reaches the memory through no method; blocks are their owners'.
unsafe impl<F: Sync> Sync for Region<F> {}

impl<F: FrameAllocator> Region<F> {
    /// The frames of `frames` as bytes, the first of its span at `base`.
    ///
    /// # Errors
    /// [`FrameError::InvalidAlignment`]: `base` is no multiple of 4096.
    ///
    /// # Safety
    /// For each frame that `frames` [manages](FrameAllocator::manages), the 4096 bytes at `base` plus 4096 times its
    /// number from the first of the span lie in one piece of memory of at most `isize::MAX` bytes, which stays while the
    /// region lives; those of frames that the region has been handed out are readable and writable through `base`, and
    /// nobody else uses them.
    pub unsafe fn new(base: NonNull<u8>, frames: F) -> Result<Self, FrameError> {
        if base.addr().get().is_multiple_of(BYTES) {
            Ok(Self { base, first: frames.span().start.0, frames })
        } else {
            Err(FrameError::InvalidAlignment)
        }
    }

    /// The allocator of the frames, for its counts, and for frames that are used by number.
    pub fn frames(&self) -> &F {
        &self.frames
    }

    /// The frame at an address of the region.
    #[inline]
    fn frame_at(&self, address: NonNull<u8>) -> usize {
        (address.addr().get().wrapping_sub(self.base.addr().get())) / BYTES + self.first
    }

    #[inline]
    fn run(&self, memory: NonNull<[u8]>) -> Frames {
        Frames::new(self.frame_at(memory.cast()), memory.len().div_ceil(BYTES))
    }

    /// A run whose address is aligned too, or nothing.
    fn request(&self, len: NonZeroUsize, alignment: Alignment) -> Option<Request> {
        let request = Request::frames(len.get().div_ceil(BYTES));
        let frames = alignment.bytes() / BYTES;
        if frames <= 1 {
            return Some(request);
        }
        let shift = (self.base.addr().get() / BYTES).wrapping_sub(self.first);
        shift.is_multiple_of(frames).then(|| request.aligned(frames))
    }
}

// SAFETY: by R2 and clause 1 of frames, blocks are runs that no other block has; by R1 their bytes are memory; runs are
// aligned as asked, and addresses with them (`request`); refusals of `frames` change nothing.
unsafe impl<F: FrameAllocator> Allocator for Region<F> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let request = self.request(len, alignment).ok_or(AllocError)?;
        let run = self.frames.alloc(&request).map_err(|_| AllocError)?;
        let offset = (run.start.0 - self.first) * BYTES;
        // SAFETY: by R1 the frame's bytes lie at that offset, in one piece of memory with `base`.
        Ok(unsafe { self.base.add(offset) })
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        let run = self.run(memory);
        let count = new_len.get().div_ceil(BYTES);
        if count <= run.count {
            let tail = Frames::new(run.start.0 + count, run.count - count);
            return tail.count == 0 || self.frames.free(tail).is_ok();
        }
        if self.frames.keeps_boundaries() {
            return false;
        }
        let more = Frames::new(run.end(), count - run.count);
        self.frames.alloc(&Request::frames(more.count).within(more).near(more.start)).is_ok()
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        // By R2 and the caller's promise it is a run that was handed out; a misuse is for a checking layer to report.
        let _ = self.frames.free(self.run(memory));
    }
}

// SAFETY: blocks consist of managed frames (R2), and an address at another place is not of a managed frame.
unsafe impl<F: FrameAllocator> Owns for Region<F> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        let inside = address >= self.base;
        inside && self.frames.manages(Frames { start: Frame(self.frame_at(address)), count: 1 })
    }
}

// SAFETY: a block occupies whole frames; where rounding would pass `isize::MAX` the length itself is the answer.
unsafe impl<F: FrameAllocator> GoodSize for Region<F> {
    fn good_size(&self, len: NonZeroUsize, _: Alignment) -> NonZeroUsize {
        let rounded = len.get().checked_next_multiple_of(BYTES).filter(|&bytes| bytes <= isize::MAX as usize);
        rounded.and_then(NonZeroUsize::new).unwrap_or(len)
    }
}

// SAFETY: by R3 every frame begins at a multiple of 4096, and a frame belongs to one block (R2).
unsafe impl<F: FrameAllocator> PageSize for Region<F> {
    fn page_size(&self) -> Alignment {
        Alignment::of::<Page>()
    }
}

#[repr(align(4096))]
struct Page;

const _: () = assert!(align_of::<Page>() == BYTES);
