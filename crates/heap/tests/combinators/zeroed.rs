//! `ZeroedAllocator`: no byte of another's is ever seen.

use std::ptr::NonNull;

use proptest::prelude::*;
use terrace_core::{Allocator, SystemAllocator};
use terrace_heap::{FreeListAllocator, ZeroedAllocator};

use crate::support::{Ground, Op, align, cases, is_all, len, ops, slice};

fn is_zero(block: NonNull<u8>, from: usize, to: usize) -> bool {
    // SAFETY: the tests pass live blocks of `to` bytes.
    from >= to || is_all(&unsafe { slice(block, to).as_ref() }[from..], 0)
}

/// Makes every byte another one.
fn dirty(block: NonNull<u8>, bytes: usize) {
    // SAFETY: the tests pass live blocks of so many bytes.
    unsafe { block.write_bytes(0xEE, bytes) };
}

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn whatever_is_new_is_zero(program in ops(3000), roomy in any::<bool>(), refuse in 0usize..20) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let zeroed = ZeroedAllocator::new(&ground);
        let mut live: Vec<(NonNull<u8>, usize)> = Vec::new();
        for op in &program {
            match *op {
                Op::Alloc { len: bytes, .. } => {
                    let Ok(block) = zeroed.alloc(len(bytes), align(8)) else { continue };
                    prop_assert!(is_zero(block, 0, bytes));
                    dirty(block, bytes);
                    live.push((block, bytes));
                }
                Op::Resize { index, len: bytes } | Op::Remap { index, len: bytes } if !live.is_empty() => {
                    let at = index % live.len();
                    let (block, old) = live[at];
                    // SAFETY: live.
                    let Some(block) = (unsafe { zeroed.remap(slice(block, old), align(8), len(bytes)) }) else { continue };
                    prop_assert!(is_zero(block, old, bytes));
                    dirty(block, bytes);
                    live[at] = (block, bytes);
                }
                Op::Free { index } if !live.is_empty() => {
                    let (block, bytes) = live.swap_remove(index % live.len());
                    // SAFETY: live, and not used again.
                    unsafe { zeroed.free(slice(block, bytes), align(8)) };
                }
                _ => {}
            }
        }
        for (block, bytes) in live {
            // SAFETY: live, and not used again.
            unsafe { zeroed.free(slice(block, bytes), align(8)) };
        }
    }
}

#[test]
fn a_tail_that_was_cut_off_and_comes_back_is_zero() {
    let list = ZeroedAllocator::new(FreeListAllocator::new(SystemAllocator, 1..=64, 2));
    let block = list.alloc(len(64), align(1)).unwrap();
    dirty(block, 64);
    // SAFETY: live.
    assert!(unsafe { list.resize(slice(block, 64), align(1), len(10)) });
    // SAFETY: live.
    assert!(unsafe { list.resize(slice(block, 10), align(1), len(64)) });
    assert!(is_zero(block, 10, 64) && !is_zero(block, 0, 10));
    // SAFETY: live, and not used again.
    unsafe { list.free(slice(block, 64), align(1)) };
}
