//! The bridges' rules, each by the requests that reach the allocator, then all together on random programs.

use std::{alloc::Layout, ptr::NonNull};

use proptest::prelude::*;

use crate::{
    strict::{Policy, Request, Strict},
    versions::{Api2, FORMS, Refused},
};

const POLICIES: [Policy; 3] = [Policy::Refuse, Policy::InPlace, Policy::Moving];

/// In each version of the trait, through a `Bridge` and through `dyn`; then nothing may be amiss or left.
fn each(policy: Policy, test: impl Fn(&Strict, &dyn Api2)) {
    for (version, speak) in FORMS {
        eprintln!("{version}, {policy:?}"); // Shown where the test fails.
        let strict = Strict::new(policy);
        test(&strict, &*speak(&strict));
        strict.finish();
    }
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// A live block and its layout, as a collection would keep them.
struct Held<'a> {
    allocator: &'a dyn Api2,
    block: NonNull<u8>,
    layout: Layout,
}

impl<'a> Held<'a> {
    fn new(allocator: &'a dyn Api2, layout: Layout) -> Result<Self, Refused> {
        Ok(Self { allocator, block: checked(allocator.allocate(layout)?, layout), layout })
    }

    fn grow(&mut self, new: Layout) -> Result<(), Refused> {
        // SAFETY: live with `self.layout`; the callers' layouts are no smaller.
        let grown = unsafe { self.allocator.grow(self.block, self.layout, new) }?;
        (self.block, self.layout) = (checked(grown, new), new);
        Ok(())
    }

    fn grow_zeroed(&mut self, new: Layout) -> Result<(), Refused> {
        // SAFETY: live with `self.layout`; the callers' layouts are no smaller.
        let grown = unsafe { self.allocator.grow_zeroed(self.block, self.layout, new) }?;
        (self.block, self.layout) = (checked(grown, new), new);
        Ok(())
    }

    fn shrink(&mut self, new: Layout) -> Result<(), Refused> {
        // SAFETY: live with `self.layout`; the callers' layouts are no larger.
        let shrunk = unsafe { self.allocator.shrink(self.block, self.layout, new) }?;
        (self.block, self.layout) = (checked(shrunk, new), new);
        Ok(())
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: live with so many bytes, all of them initialised by `Strict`; borrowed from `self`.
        unsafe { NonNull::slice_from_raw_parts(self.block, self.layout.size()).as_mut() }
    }

    /// Byte values that depend on the place and on `salt`.
    fn fill(&mut self, salt: u8) {
        for (at, byte) in self.bytes().iter_mut().enumerate() {
            *byte = value(at, salt);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: live with this layout, given up here.
        unsafe { self.allocator.deallocate(self.block, self.layout) };
    }
}

fn value(at: usize, salt: u8) -> u8 {
    (at as u8).wrapping_mul(31).wrapping_add(salt) | 1
}

/// Exactly as long and at least as aligned as asked.
fn checked(block: NonNull<[u8]>, layout: Layout) -> NonNull<u8> {
    assert_eq!(block.len(), layout.size(), "the exact length comes back");
    assert!(block.addr().get().is_multiple_of(layout.align()), "{block:?} for {layout:?}");
    block.cast()
}

#[test]
fn a_length_is_changed_by_remap_and_else_by_moving() {
    for policy in POLICIES {
        each(policy, |strict, bridge| {
            let mut held = Held::new(bridge, layout(8, 4)).unwrap();
            held.fill(0);
            held.grow(layout(12, 4)).unwrap();
            let moved = [Request::Remap(8, 4, 12), Request::Alloc(12, 4), Request::Free(8, 4)];
            let expected = if policy == Policy::Refuse { &moved[..] } else { &moved[..1] };
            assert_eq!(strict.requests()[1..], *expected);
            held.shrink(layout(3, 4)).unwrap();
            let moved = [Request::Remap(12, 4, 3), Request::Alloc(3, 4), Request::Free(12, 4)];
            let expected = if policy == Policy::Refuse { &moved[..] } else { &moved[..1] };
            assert_eq!(strict.requests(), expected);
            assert_eq!(held.bytes(), [value(0, 0), value(1, 0), value(2, 0)]);
            drop(held);
            assert_eq!(strict.requests(), [Request::Free(3, 4)]);
        });
    }
}

#[test]
fn zeroed_memory_is_asked_for_as_such() {
    each(Policy::Refuse, |strict, bridge| {
        let layout = layout(6, 2);
        let block = checked(bridge.allocate_zeroed(layout).unwrap(), layout);
        let mut held = Held { allocator: bridge, block, layout };
        assert_eq!(strict.requests(), [Request::AllocZeroed(6, 2)]);
        assert_eq!(held.bytes(), [0; 6]);
    });
}

#[test]
fn another_alignment_stricter_or_looser_is_alloc_copy_free() {
    for (policy, new_align) in POLICIES.into_iter().flat_map(|policy| [1, 2, 8, 64, 4096].map(|align| (policy, align)))
    {
        each(policy, |strict, bridge| {
            let mut held = Held::new(bridge, layout(8, 4)).unwrap();
            held.fill(1);
            strict.requests();
            held.grow(layout(8, new_align)).unwrap();
            assert_eq!(strict.requests(), [Request::Alloc(8, new_align), Request::Free(8, 4)]);
            held.shrink(layout(5, 4)).unwrap();
            assert_eq!(strict.requests(), [Request::Alloc(5, 4), Request::Free(8, new_align)]);
            held.grow_zeroed(layout(6, new_align)).unwrap();
            assert_eq!(strict.requests(), [Request::AllocZeroed(6, new_align), Request::Free(5, 4)]);
            assert_eq!(held.bytes(), [value(0, 1), value(1, 1), value(2, 1), value(3, 1), value(4, 1), 0]);
        });
    }
}

#[test]
fn a_size_of_0_never_reaches_the_allocator() {
    for policy in POLICIES {
        each(policy, |strict, bridge| {
            let mut held = Held::new(bridge, layout(0, 64)).unwrap();
            checked(bridge.allocate_zeroed(layout(0, 8)).unwrap(), layout(0, 8));
            held.grow(layout(0, 4096)).unwrap();
            held.grow_zeroed(layout(0, 64)).unwrap();
            held.shrink(layout(0, 2)).unwrap();
            assert_eq!(strict.requests(), []);
            held.grow(layout(6, 2)).unwrap();
            assert_eq!(strict.requests(), [Request::Alloc(6, 2)], "growing from 0 is an alloc");
            held.shrink(layout(0, 2)).unwrap();
            assert_eq!(strict.requests(), [Request::Free(6, 2)], "shrinking to 0 is a free");
            held.grow_zeroed(layout(4, 2)).unwrap();
            assert_eq!(strict.requests(), [Request::AllocZeroed(4, 2)]);
            assert_eq!(held.bytes(), [0; 4]);
            held.shrink(layout(0, 32)).unwrap();
            assert_eq!(strict.requests(), [Request::Free(4, 2)]);
            drop(held);
            assert_eq!(strict.requests(), [], "nothing is there to free");
        });
    }
}

/// `Strict` itself sees that nothing behind the new end is written.
#[test]
fn grow_zeroed_zeroes_from_the_old_end_to_the_new() {
    let lengths = [(1, 2), (7, 14), (8, 8), (100, 101), (100, 5000)];
    for (policy, (old, new)) in POLICIES.into_iter().flat_map(|policy| lengths.map(|lengths| (policy, lengths))) {
        each(policy, |_, bridge| {
            let mut held = Held::new(bridge, layout(old, 8)).unwrap();
            held.fill(2);
            held.grow_zeroed(layout(new, 8)).unwrap();
            let kept =
                held.bytes().iter().enumerate().all(|(at, byte)| *byte == if at < old { value(at, 2) } else { 0 });
            assert!(kept, "from {old} to {new}");
        });
    }
}

#[test]
fn a_grow_zeroed_that_moves_asks_for_memory_that_is_zero_already() {
    each(Policy::Refuse, |strict, bridge| {
        let mut held = Held::new(bridge, layout(8, 8)).unwrap();
        strict.requests();
        held.grow_zeroed(layout(1 << 20, 8)).unwrap();
        let moved = [Request::Remap(8, 8, 1 << 20), Request::AllocZeroed(1 << 20, 8), Request::Free(8, 8)];
        assert_eq!(strict.requests(), moved);
    });
}

#[test]
fn without_memory_the_old_block_is_as_it_was() {
    each(Policy::Refuse, |strict, bridge| {
        let mut held = Held::new(bridge, layout(8, 8)).unwrap();
        held.fill(3);
        strict.allocs_left.set(0);
        for new in [layout(8, 16), layout(9, 8), layout(isize::MAX as usize - 7, 8)] {
            assert_eq!(held.grow(new), Err(Refused));
            assert_eq!(held.grow_zeroed(new), Err(Refused));
        }
        for new in [layout(7, 8), layout(8, 1)] {
            assert_eq!(held.shrink(new), Err(Refused));
        }
        assert!(Held::new(bridge, layout(1, 1)).is_err());
        assert_eq!(bridge.allocate_zeroed(layout(1, 1)), Err(Refused));
        let whole = held.bytes().iter().enumerate().all(|(at, byte)| *byte == value(at, 3));
        assert!(whole);
    });
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// To a size and an alignment, by whichever of grow and shrink fits.
    Change { block: usize, size: usize, align: usize, zeroed: bool },
    /// So many allocs succeed from here on.
    Limit(usize),
    /// The block ends, and a new one takes its place.
    Replace { block: usize, size: usize, align: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let block = 0..4usize;
    let size = prop_oneof![Just(0), 1..40usize, 1..3000usize];
    let align = (0..8u32).prop_map(|log2| 1usize << log2);
    prop_oneof![
        6 => (block.clone(), size.clone(), align.clone(), any::<bool>())
            .prop_map(|(block, size, align, zeroed)| Op::Change { block, size, align, zeroed }),
        1 => (0..5usize).prop_map(Op::Limit),
        1 => Just(Op::Limit(usize::MAX)),
        2 => (block, size, align).prop_map(|(block, size, align)| Op::Replace { block, size, align }),
    ]
}

/// Four blocks beside a model of their contents.
fn run(strict: &Strict, allocator: &dyn Api2, ops: &[Op]) {
    let mut blocks: Vec<(Held<'_>, Vec<u8>)> =
        (0..4).map(|_| (Held::new(allocator, layout(0, 1)).unwrap(), vec![])).collect();
    for (salt, op) in ops.iter().enumerate() {
        match *op {
            Op::Limit(allocs) => strict.allocs_left.set(allocs),
            Op::Replace { block, size, align } => {
                if let Ok(mut held) = Held::new(allocator, layout(size, align)) {
                    held.fill(salt as u8);
                    let model = held.bytes().to_vec();
                    blocks[block] = (held, model);
                }
            }
            Op::Change { block, size, align, zeroed } => {
                let (held, model) = &mut blocks[block];
                let new = layout(size, align);
                let changed = match size >= model.len() {
                    true if zeroed => held.grow_zeroed(new),
                    true => held.grow(new),
                    false => held.shrink(new),
                };
                if changed.is_ok() {
                    let old_len = model.len();
                    model.resize(size, 0);
                    if !zeroed && size > old_len {
                        held.bytes()[old_len..].fill(0); // Undefined so far.
                    }
                }
            }
        }
        for (held, model) in &mut blocks {
            assert_eq!(held.bytes(), model, "after {op:?}");
        }
        let in_bytes = blocks.iter().filter(|(held, _)| held.layout.size() != 0).count();
        assert_eq!(strict.live_blocks(), in_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_program_keeps_contents_lengths_and_alignments(
        ops in prop::collection::vec(op(), 1..60),
        policy in prop::sample::select(&POLICIES[..]),
        (version, speak) in prop::sample::select(FORMS),
    ) {
        eprintln!("{version}");
        let strict = Strict::new(policy);
        run(&strict, &*speak(&strict), &ops);
        strict.finish();
    }
}
