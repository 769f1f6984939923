//! [`Picture`]: free memory as text, a mark for each block or so.
//!
//! ```text
//!  0x000000000000 |.13#.....#### ..|
//!                  │││  │       │ └ no memory here
//!                  ││└ tenths   └ every frame is in use
//!                  │└ of the frames are in use
//!                  └ every frame is free
//! ```
//!
//! Marks stand for blocks that begin at multiples of their size, 64 in a line, and lines begin at multiples of a line:
//! pictures of the same memory lie over each other, whatever part of it they show. Lines without memory are left out
//! and counted.
//!
//! Cost: a [`free_word`](FrameAllocator::free_word) for 64 frames of what is shown, and one question whether it is
//! memory for each mark; for the marks at the edges of memory, and those in holes, one for each 64 frames and each
//! frame. It allocates nothing.
#![forbid(unsafe_code)]

use core::fmt;

use crate::{
    allocator::FrameAllocator,
    areas::inside,
    types::{FRAME_BYTES, Frames, Order, PageSize},
    word::WORD,
};

/// Marks in a line.
const LINE: usize = 64;

/// A picture to be printed: what it shows is looked up then.
///
/// ```
/// use terrace_frame::{BitmapAllocator, FrameAllocator, Frames, MemoryMap, Order, Picture, Request};
///
/// let map = MemoryMap::of(Frames::new(0, 2048)).unwrap();
/// let mut metadata = [0; BitmapAllocator::metadata_bytes(2048) / 8];
/// let frames = BitmapAllocator::new(&map, &mut metadata)?;
/// frames.alloc(&Request::frames(700))?;
///
/// let picture = Picture::of(&frames).to_string();
/// assert!(picture.starts_with("0x000000000000 |#3..  "), "512 frames each: all, 188, and twice none in use");
/// println!("{}", Picture::of(&frames).of_blocks(Order::new(6).unwrap())); // 64 frames each
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
pub struct Picture<'a, F: ?Sized> {
    frames: &'a F,
    range: Frames,
    block: Order,
}

impl<'a, F: FrameAllocator + ?Sized> Picture<'a, F> {
    /// Of all that `frames` spans, with a mark for each 2 MiB.
    #[must_use]
    pub fn of(frames: &'a F) -> Self {
        Self { frames, range: frames.span(), block: PageSize::Large.order() }
    }

    /// The same with a mark for each block of that order.
    #[must_use]
    pub fn of_blocks(self, order: Order) -> Self {
        Self { block: order, ..self }
    }

    /// The same, of these frames only: what lies beyond is shown as no memory.
    #[must_use]
    pub fn within(self, range: Frames) -> Self {
        Self { range: self.range.shared_with(range), ..self }
    }

    /// The mark of some frames.
    fn mark(&self, block: Frames) -> char {
        let memory = self.memory(block);
        if memory == 0 {
            return ' ';
        }
        let words = block.start.0 / WORD..block.end().div_ceil(WORD);
        let free = words.map(|word| (self.frames.free_word(word) & inside(word, block)).count_ones() as usize);
        // Where calls race, more may be free than there is.
        match memory.saturating_sub(free.sum()) {
            0 => '.',
            used if used == memory => '#',
            used => char::from(b'0' + (used * 10 / memory).clamp(1, 9) as u8),
        }
    }

    /// How many of the frames are memory.
    fn memory(&self, block: Frames) -> usize {
        if block.count == 0 || self.frames.manages(block) {
            return block.count;
        }
        let words = block.start.0 / WORD..block.end().div_ceil(WORD);
        let each = words.map(|word| {
            let part = block.shared_with(Frames::new(word * WORD, WORD));
            if self.frames.manages(part) {
                return part.count;
            }
            (part.start.0..part.end()).filter(|&frame| self.frames.manages(Frames::new(frame, 1))).count()
        });
        each.sum()
    }

    /// The marks of the line with that number.
    fn line(&self, number: usize) -> [char; LINE] {
        let size = self.block.frames();
        let first = number * LINE * size;
        core::array::from_fn(|at| self.mark(Frames::new(first.saturating_add(at * size), size).shared_with(self.range)))
    }
}

impl<F: FrameAllocator + ?Sized> fmt::Display for Picture<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.block.frames() * LINE;
        let mut left_out = 0;
        for number in self.range.start.0 / line..self.range.end().div_ceil(line) {
            let marks = self.line(number);
            if marks == [' '; LINE] {
                left_out += 1;
                continue;
            }
            tell_left_out(f, &mut left_out)?;
            write!(f, "{:#014x} |", Frames::new(number * line, 1).start.address().0)?;
            marks.iter().try_for_each(|mark| write!(f, "{mark}"))?;
            f.write_str("|\n")?;
        }
        tell_left_out(f, &mut left_out)?;
        let kib = self.block.frames() as u64 * (FRAME_BYTES / 1024);
        write!(f, "each {kib} KiB: . free, 1 to 9 tenths in use, # in use, blank no memory")
    }
}

/// Says how many lines had no memory, if any, and counts anew.
fn tell_left_out(f: &mut fmt::Formatter<'_>, lines: &mut usize) -> fmt::Result {
    match core::mem::take(lines) {
        0 => Ok(()),
        lines => writeln!(f, "{:14} lines without memory: {lines}", ""),
    }
}

impl<F: ?Sized> fmt::Debug for Picture<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture").field("range", &self.range).field("block", &self.block).finish()
    }
}
