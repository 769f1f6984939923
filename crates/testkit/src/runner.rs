//! Takes a script's steps, and looks at every block after each.
//!
//! ```text
//!   script ─▶ Driver ─▶ Monitor (top) ─▶ the allocator under test ─▶ Monitor (backing) ─▶ ground
//!               │                                                        │
//!            paints every block with bytes of its own,               what the backing holds, as a sum:
//!            and reads all of them after each step                    the same after a refusal
//! ```
//!
//! After the first breach no further call is made and no block is touched: what it broke is not to break
//! the judge.

use std::{
    env,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    ptr::NonNull,
    sync::LazyLock,
};

use terrace_core::{Alignment, Allocator};

use crate::{
    Check, Failure, Start,
    breach::{Block, Breach, Finding, Handler, Reports, Role},
    failing::Refusal,
    monitor::Monitor,
    script::{Op, Script},
};

/// What a run that broke nothing did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    /// Calls that the backings heard.
    pub asked: usize,
    pub steps: u64,
    /// Calls of alloc and alloc_zeroed that were refused.
    pub denied: u64,
}

/// Runs a script over what `make` makes.
///
/// # Errors
/// The breaches, with the steps up to the one that broke the contract. With the environment variable
/// `TERRACE_TRACE` each step is printed before it is taken, for allocators that crash.
pub fn replay(script: &Script, make: impl Fn(&Start, &mut Check<'_>)) -> Result<(), Box<Failure>> {
    run(script, &make).map(drop)
}

pub(crate) fn run(script: &Script, make: &impl Fn(&Start, &mut Check<'_>)) -> Result<Run, Box<Failure>> {
    let start = Start::new(script.setup, script.refusal);
    let (mut taken, mut denied) = (Vec::new(), 0);
    let reports = judged(&start, || {
        make(&start, &mut |allocator| denied += Driver::new(&start, allocator).take_all(script, &mut taken));
    });
    if reports.is_clean() {
        return Ok(Run { asked: start.asked(), steps: taken.len() as u64, denied });
    }
    let script = Script { ops: taken, ..script.clone() };
    Err(Box::new(Failure { script, breaches: reports.breaches() }))
}

/// Runs `body`, and takes a panic out of it for a breach of clause 10.
#[track_caller]
pub(crate) fn judged(start: &Start, body: impl FnOnce()) -> Reports {
    let reports = start.reports();
    let site = Location::caller();
    if catch_unwind(AssertUnwindSafe(body)).is_err() && reports.is_clean() {
        reports.breach(&Breach::new(Finding::Unwound { call: "making or dropping it" }, Role::Top, site));
    }
    reports
}

/// Bytes to paint with: no run of them repeats.
static PAINT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(1 << 15).collect()
});

/// A live block; its bytes are those of `PAINT` from `color` on.
#[derive(Clone, Copy)]
struct Live {
    memory: NonNull<[u8]>,
    alignment: Alignment,
    color: usize,
}

impl Live {
    fn block(&self) -> Block {
        Block::of(self.memory, self.alignment)
    }

    /// The pieces of `PAINT` that cover `from..to` of the block, with where they begin.
    fn pieces(&self, from: usize, to: usize) -> impl Iterator<Item = (usize, &'static [u8])> {
        let color = self.color;
        let mut at = from;
        std::iter::from_fn(move || {
            let piece = &PAINT[(color + at) % PAINT.len()..];
            let piece = &piece[..piece.len().min(to - at)];
            let start = at;
            at += piece.len();
            (!piece.is_empty()).then_some((start, piece))
        })
    }

    /// # Safety
    /// The block is live.
    unsafe fn paint(&self, from: usize) {
        for (at, piece) in self.pieces(from, self.memory.len()) {
            // SAFETY: inside the block.
            let to = unsafe { self.memory.cast::<u8>().add(at) };
            // SAFETY: inside the block, which nobody else uses; `PAINT` lies elsewhere.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(piece).cast(), piece.len()) };
        }
    }

    /// The first byte below `to` that is not as painted.
    ///
    /// # Safety
    /// The block is live and was painted.
    unsafe fn first_change(&self, to: usize) -> Option<usize> {
        // SAFETY: live by the caller's promise.
        let bytes = unsafe { self.memory.as_ref() };
        self.pieces(0, to).find_map(|(at, piece)| {
            let now = &bytes[at..at + piece.len()];
            if now == piece {
                return None;
            }
            now.iter().zip(piece).position(|(now, was)| now != was).map(|offset| at + offset)
        })
    }
}

/// Drives one allocator.
pub(crate) struct Driver<'s, 'a> {
    start: &'s Start,
    reports: Reports,
    top: Monitor<&'a dyn Allocator>,
    live: Vec<Live>,
    colors: usize,
    denied: u64,
}

impl<'s, 'a> Driver<'s, 'a> {
    pub(crate) fn new(start: &'s Start, allocator: &'a dyn Allocator) -> Self {
        let (reports, top) = (start.reports(), start.top(allocator));
        Self { start, reports, top, live: Vec::new(), colors: 0, denied: 0 }
    }

    /// All steps of a script, then frees what is left. `taken` gets the steps as they were taken: those without
    /// a block are left out. The answer is how many requests for memory were refused.
    pub(crate) fn take_all(mut self, script: &Script, taken: &mut Vec<Op>) -> u64 {
        let trace = env::var_os("TERRACE_TRACE").is_some();
        for &op in &script.ops {
            let Some(op) = self.aimed(op) else { continue };
            taken.push(op);
            if trace {
                eprintln!("{op}");
            }
            if !self.take(op, script.refusal == Refusal::Never) {
                return self.denied;
            }
        }
        // Oldest first on even counts, newest first on odd ones.
        while !self.live.is_empty() {
            let block = if self.colors.is_multiple_of(2) { 0 } else { self.live.len() - 1 };
            if !self.take(Op::Free { block }, false) {
                break;
            }
        }
        self.denied
    }

    /// The step with its block's number within what is live; `None` where it needs one and there is none.
    fn aimed(&self, op: Op) -> Option<Op> {
        let aim = |block: usize| block.checked_rem(self.live.len());
        Some(match op {
            Op::Resize { block, len } => Op::Resize { block: aim(block)?, len },
            Op::Remap { block, len } => Op::Remap { block: aim(block)?, len },
            Op::Free { block } => Op::Free { block: aim(block)? },
            Op::Alloc { .. } | Op::AllocZeroed { .. } => op,
        })
    }

    /// One step; `false` after a breach. `lawful`: the backing refuses nothing on command.
    pub(crate) fn take(&mut self, op: Op, lawful: bool) -> bool {
        let held = self.start.held();
        let granted = match op {
            Op::Alloc { len, alignment } => self.alloc(len, alignment, false),
            Op::AllocZeroed { len, alignment } => self.alloc(len, alignment, true),
            Op::Resize { block, len } => self.resize(block, len),
            Op::Remap { block, len } => self.remap(block, len, lawful),
            Op::Free { block } => {
                let Live { memory, alignment, .. } = self.live.remove(block);
                // SAFETY: live until now, and not used again.
                unsafe { self.top.free(memory, alignment) };
                true
            }
        };
        if !granted && self.reports.is_clean() && self.start.held() != held {
            self.report(Finding::RefusalChangedBacking);
        }
        self.reports.is_clean() && self.all_as_painted(granted)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.live.len()
    }

    fn alloc(&mut self, len: usize, alignment: Alignment, zeroed: bool) -> bool {
        let len = NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN);
        let block = if zeroed { self.top.alloc_zeroed(len, alignment) } else { self.top.alloc(len, alignment) };
        let Ok(block) = block else {
            self.denied += 1;
            return false;
        };
        let memory = NonNull::slice_from_raw_parts(block, len.get());
        self.colors += 1;
        let live = Live { memory, alignment, color: self.colors * 977 };
        if self.reports.is_clean() {
            // SAFETY: just handed out, over no live block.
            unsafe { live.paint(0) };
            self.live.push(live);
        }
        true
    }

    fn resize(&mut self, index: usize, len: usize) -> bool {
        let Live { memory, alignment, .. } = self.live[index];
        let len = NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN);
        // SAFETY: live.
        let granted = unsafe { self.top.resize(memory, alignment, len) };
        if granted {
            self.repaint(index, memory.cast(), len.get());
        }
        granted
    }

    fn remap(&mut self, index: usize, len: usize, lawful: bool) -> bool {
        let Live { memory, alignment, .. } = self.live[index];
        let held = self.start.held();
        let new_len = NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN);
        // SAFETY: live.
        if let Some(block) = unsafe { self.top.remap(memory, alignment, new_len) } {
            self.repaint(index, block, new_len.get());
            return true;
        }
        // After `None` nothing has changed, so `resize` answers from the state that `remap` saw.
        if lawful && self.reports.is_clean() && self.start.held() == held && self.resize(index, len) {
            self.report(Finding::RemapRefused { block: Block::of(memory, alignment), new_len: new_len.get() });
            return true;
        }
        false
    }

    /// What is left to do after a grant: the head must be as it was, the tail is new.
    fn repaint(&mut self, index: usize, start: NonNull<u8>, len: usize) {
        if !self.reports.is_clean() {
            return;
        }
        let live = &mut self.live[index];
        let kept = live.memory.len().min(len);
        live.memory = NonNull::slice_from_raw_parts(start, len);
        let live = *live;
        // SAFETY: live, painted up to `kept`.
        if let Some(offset) = unsafe { live.first_change(kept) } {
            self.report(Finding::LostContents { block: live.block(), offset });
            return;
        }
        // SAFETY: live, and the tail is nobody else's.
        unsafe { live.paint(kept) };
    }

    fn all_as_painted(&self, granted: bool) -> bool {
        for live in &self.live {
            // SAFETY: live and painted, and without a breach so far.
            if let Some(offset) = unsafe { live.first_change(live.memory.len()) } {
                let block = live.block();
                let refused = Finding::RefusalChangedBlock { block, offset };
                self.report(if granted { Finding::Trampled { block, offset } } else { refused });
                return false;
            }
        }
        true
    }

    #[track_caller]
    fn report(&self, finding: Finding) {
        self.reports.breach(&Breach::new(finding, Role::Top, Location::caller()));
    }
}
