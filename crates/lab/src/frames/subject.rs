//! [`Subject`]: what a workload asks for runs of frames, and [`with`], which makes the allocator that a word names.
//!
//! ```text
//! workload ──▶ Subject ─┬─ Managed<F: FrameAllocator>    the allocator, its metadata counted
//!                       ├─ Nothing                       no allocator: the workload's own cost
//!                       └─ FirstFit                      the oracle of aging: the lowest place, whatever it costs
//! ```
//!
//! The frames are numbers: no memory stands behind them, so 64 GiB cost 2 MiB of metadata and no more.
#![forbid(unsafe_code)]

use std::{hint::black_box, sync::Mutex};

use anyhow::Context;
use terrace_core::Stats;
use terrace_frame::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Frame, FrameAllocator, Frames, HybridAllocator, MemoryMap,
    Order,
};
use terrace_heap::StatsAllocator;
use terrace_sys::{PageAllocator, ThreadSlots};

use crate::stack::frames::FrameWord;

/// Hands out runs of a power of two of frames, by the number of the first.
pub trait Subject: Sync {
    fn get(&self, order: u32) -> Option<usize>;
    /// `false`: it says that this is no run of its own.
    fn put(&self, start: usize, order: u32) -> bool;
    /// Whether nobody has the frame; asked when nobody is at work.
    fn is_free(&self, frame: usize) -> bool;
    /// Gives up what is kept at hand.
    fn drain(&self) {}
}

/// An allocator of frames.
struct Managed<F>(F);

impl<F: FrameAllocator + Sync> Subject for Managed<F> {
    #[inline]
    fn get(&self, order: u32) -> Option<usize> {
        self.0.alloc_order(Order::new(order)?).ok().map(|frame| frame.0)
    }

    #[inline]
    fn put(&self, start: usize, order: u32) -> bool {
        Order::new(order).is_some_and(|order| self.0.free_order(Frame(start), order).is_ok())
    }

    fn is_free(&self, frame: usize) -> bool {
        self.0.is_free(Frame(frame))
    }

    fn drain(&self) {
        self.0.drain();
    }
}

/// Does something with a subject whose type only this file knows.
pub trait Visitor {
    type Output;
    fn visit<S: Subject>(self, subject: &S, metadata: u64) -> Self::Output;
}

/// Shows `visitor` an allocator over so many frames, all of them free.
///
/// # Errors
/// Where there is no memory for its metadata.
pub fn with<V: Visitor>(word: FrameWord, frames: usize, visitor: V) -> anyhow::Result<V::Output> {
    let ground = StatsAllocator::new(PageAllocator);
    let map = MemoryMap::of(Frames::new(0, frames))?;
    let told = || format!("no metadata for {word} over {frames} frames; choose a smaller --size");
    let taken = || ground.stats().current_bytes;
    Ok(match word {
        FrameWord::Bitmap => {
            let subject = Managed(BitmapAllocator::new_in(&map, &ground).with_context(told)?);
            visitor.visit(&subject, taken())
        }
        FrameWord::Buddy => {
            let subject = Managed(BuddyAllocator::new_in(&map, Order::MIN, &ground).with_context(told)?);
            visitor.visit(&subject, taken())
        }
        FrameWord::Classic => {
            let subject = Managed(ClassicBuddyAllocator::new_in(&map, &ground).with_context(told)?);
            visitor.visit(&subject, taken())
        }
        FrameWord::Hybrid => {
            let subject = Managed(HybridAllocator::new_in(&map, ThreadSlots, &ground).with_context(told)?);
            visitor.visit(&subject, taken())
        }
    })
}

/// Grants everything.
pub struct Nothing;

impl Subject for Nothing {
    #[inline]
    fn get(&self, order: u32) -> Option<usize> {
        Some(black_box(order as usize))
    }

    #[inline]
    fn put(&self, start: usize, _: u32) -> bool {
        black_box(start);
        true
    }

    fn is_free(&self, _: usize) -> bool {
        true
    }
}

/// The lowest place of all.
pub struct FirstFit(Mutex<Places>);

struct Places {
    free: Vec<bool>,
    /// Of each order, below which there is nothing: so that it is an oracle that ends today.
    from: [usize; 21],
}

impl FirstFit {
    pub fn new(frames: usize) -> Self {
        Self(Mutex::new(Places { free: vec![true; frames], from: [0; 21] }))
    }

    fn places<R>(&self, does: impl FnOnce(&mut Places) -> R) -> R {
        does(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Subject for FirstFit {
    fn get(&self, order: u32) -> Option<usize> {
        self.places(|places| {
            let len = 1 << order;
            let last = places.free.len().checked_sub(len)?;
            let is_free = |&start: &usize| places.free[start..start + len].iter().all(|&free| free);
            let start = (places.from[order as usize]..=last).step_by(len).find(is_free)?;
            places.from[order as usize] = start;
            places.free[start..start + len].fill(false);
            Some(start)
        })
    }

    fn put(&self, start: usize, order: u32) -> bool {
        self.places(|places| {
            places.free[start..start + (1 << order)].fill(true);
            for (order, from) in places.from.iter_mut().enumerate() {
                *from = (*from).min(start >> order << order);
            }
        });
        true
    }

    fn is_free(&self, frame: usize) -> bool {
        self.places(|places| places.free[frame])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_takes_the_lowest_place_that_is_aligned() {
        let oracle = FirstFit::new(16);
        assert_eq!([0, 2, 0, 3].map(|order| oracle.get(order)), [Some(0), Some(4), Some(1), Some(8)]);
        assert_eq!(oracle.get(2), None);
        assert!(oracle.put(4, 2) && oracle.is_free(4) && !oracle.is_free(8));
        assert_eq!([1, 2].map(|order| oracle.get(order)), [Some(2), Some(4)]);
    }
}
