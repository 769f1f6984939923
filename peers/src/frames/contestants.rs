//! Who takes part: ours, and each peer under each of two locks.
//!
//! Both peers are `&mut self` and need a lock to be shared. With `spin::Mutex`, which kernels use, and with std's, which
//! sleeps: the better of the two is the one that ours is compared with.

use std::sync::{Mutex as StdMutex, PoisonError};

use bitmap_allocator::{BitAlloc, BitAlloc16M};
use buddy_system_allocator::FrameAllocator as BuddySystem;
use spin::mutex::SpinMutex;
use terrace_frame::{Frame, FrameAllocator, Frames, HybridAllocator, MemoryMap, Order};
use terrace_sys::{PageAllocator, ThreadSlots};

use super::work::{Plan, Samples, Share, round};
use crate::harness::OURS;

/// One allocator, for runs of one order.
pub struct Contestant {
    pub name: &'static str,
    pub run: Box<Round>,
}

/// A timed round.
type Round = dyn Fn(&Plan) -> anyhow::Result<Samples>;

/// 64 GiB: `BitAlloc16M` has as many bits, and order 24, the highest of 25, as many frames.
const FRAMES: usize = 1 << 24;

/// All of them, over memories of so many frames that are all free.
///
/// # Errors
/// Where there is no memory for the metadata.
pub fn all(order: u32, frames: usize) -> anyhow::Result<Vec<Contestant>> {
    anyhow::ensure!(frames <= FRAMES, "bitmap-allocator's largest of that kind has {FRAMES} frames");
    Ok(vec![
        ours(order, frames)?,
        locked::<SpinMutex<_>, _>("bitmap-allocator, spin::Mutex", order, bitmap(frames)),
        locked::<StdMutex<_>, _>("bitmap-allocator, std Mutex", order, bitmap(frames)),
        locked::<SpinMutex<_>, _>("buddy_system_allocator, spin::Mutex", order, buddy(frames)),
        locked::<StdMutex<_>, _>("buddy_system_allocator, std Mutex", order, buddy(frames)),
    ])
}

struct Ours {
    frames: HybridAllocator<'static, ThreadSlots, PageAllocator>,
    order: Order,
}

fn ours(order: u32, frames: usize) -> anyhow::Result<Contestant> {
    let map = MemoryMap::of(Frames::new(0, frames))?;
    let frames = HybridAllocator::new_in(&map, ThreadSlots, &PageAllocator)?;
    let ours = Ours { frames, order: Order::new(order).expect("up to 20") };
    Ok(Contestant { name: OURS, run: Box::new(move |plan| round(&ours, plan)) })
}

impl Share for Ours {
    #[inline]
    fn get(&self) -> Option<usize> {
        self.frames.alloc_order(self.order).ok().map(|frame| frame.0)
    }

    #[inline]
    fn put(&self, start: usize) -> bool {
        self.frames.free_order(Frame(start), self.order).is_ok()
    }
}

/// A peer, which one thread at a time may call.
trait Alone {
    fn get(&mut self, order: u32) -> Option<usize>;
    fn put(&mut self, start: usize, order: u32) -> bool;
}

fn bitmap(frames: usize) -> Box<BitAlloc16M> {
    let mut bits = Box::new(BitAlloc16M::DEFAULT);
    bits.insert(0..frames);
    bits
}

impl Alone for Box<BitAlloc16M> {
    #[inline]
    fn get(&mut self, order: u32) -> Option<usize> {
        match order {
            0 => (**self).alloc(),
            _ => self.alloc_contiguous(None, 1 << order, order as usize),
        }
    }

    #[inline]
    fn put(&mut self, start: usize, order: u32) -> bool {
        match order {
            0 => (**self).dealloc(start),
            _ => self.dealloc_contiguous(start, 1 << order),
        }
    }
}

/// With no list above its largest block, so that it looks at none in vain.
fn buddy(frames: usize) -> BuddySystem<25> {
    let mut lists = BuddySystem::new();
    lists.add_frame(0, frames);
    lists
}

impl Alone for BuddySystem<25> {
    #[inline]
    fn get(&mut self, order: u32) -> Option<usize> {
        self.alloc(1 << order)
    }

    #[inline]
    fn put(&mut self, start: usize, order: u32) -> bool {
        self.dealloc(start, 1 << order);
        true
    }
}

trait Lock<A> {
    fn of(inner: A) -> Self;
    fn with<R>(&self, does: impl FnOnce(&mut A) -> R) -> R;
}

impl<A> Lock<A> for SpinMutex<A> {
    fn of(inner: A) -> Self {
        Self::new(inner)
    }

    #[inline]
    fn with<R>(&self, does: impl FnOnce(&mut A) -> R) -> R {
        does(&mut self.lock())
    }
}

impl<A> Lock<A> for StdMutex<A> {
    fn of(inner: A) -> Self {
        Self::new(inner)
    }

    #[inline]
    fn with<R>(&self, does: impl FnOnce(&mut A) -> R) -> R {
        does(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Locked<L, A> {
    lock: L,
    order: u32,
    inner: std::marker::PhantomData<fn(A)>,
}

impl<A: Alone, L: Lock<A> + Sync> Share for Locked<L, A> {
    #[inline]
    fn get(&self) -> Option<usize> {
        self.lock.with(|inner| inner.get(self.order))
    }

    #[inline]
    fn put(&self, start: usize) -> bool {
        self.lock.with(|inner| inner.put(start, self.order))
    }
}

fn locked<L: Lock<A> + Sync + 'static, A: Alone + 'static>(name: &'static str, order: u32, inner: A) -> Contestant {
    let locked = Locked { lock: L::of(inner), order, inner: std::marker::PhantomData };
    Contestant { name, run: Box::new(move |plan| round(&locked, plan)) }
}
