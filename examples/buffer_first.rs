//! A buffer first: small work stays on the stack, large work still works.
//!
//! ```console
//! $ cargo run -p terrace-examples --example buffer_first
//! 4 short paths asked the heap 0 times; a long one did ask it
//! ```
//!
//! `normalised` needs a list of a path's parts and the new path, of which it does not know the lengths. Nearly all
//! paths are short: for those half a KiB on the stack is enough, and the heap hears nothing. The function does
//! not know which of the two it was, and frees in either case.

use std::mem::MaybeUninit;

use allocator_api2_02::vec::Vec;
use terrace_core::{AllocError, Allocator, Stats, SystemAllocator};
use terrace_heap::{BufferFirstAllocator, StatsAllocator};

/// `path` without `.`, `..` and doubled slashes; says it to `with`.
fn normalised<R>(path: &str, heap: &dyn Allocator, with: impl FnOnce(&str) -> R) -> Result<R, AllocError> {
    let mut buffer = [MaybeUninit::uninit(); 512];
    let first = BufferFirstAllocator::new(&mut buffer, heap);
    let mut parts = Vec::new_in(&first);
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            parts.pop();
        } else {
            parts.try_reserve(1).map_err(|_| AllocError)?;
            parts.push(part);
        }
    }
    let mut text = Vec::new_in(&first);
    let len = parts.iter().map(|part| part.len() + 1).sum();
    text.try_reserve_exact(len).map_err(|_| AllocError)?;
    for part in &parts {
        text.push(b'/');
        text.extend_from_slice(part.as_bytes());
    }
    Ok(with(std::str::from_utf8(&text).expect("parts of a str")))
}

const SHORT: [&str; 4] = ["/usr/../usr/lib", "/etc//hosts", "/a/./b/./c", "/x/y/z/../../.."];

/// How often the heap is asked for the short paths, and for one of a thousand parts.
fn requests() -> Result<(u64, u64), AllocError> {
    let heap = StatsAllocator::new(SystemAllocator);
    for path in SHORT {
        normalised(path, &heap, |_| ())?;
    }
    let short = heap.stats().total_allocations;
    normalised(&"/terrace".repeat(40), &heap, |_| ())?;
    assert_eq!(heap.stats().current_bytes, 0, "all of it came back");
    Ok((short, heap.stats().total_allocations - short))
}

fn main() -> Result<(), AllocError> {
    let (short, long) = requests()?;
    let long = if long > 0 { "did ask it" } else { "did not" };
    println!("{} short paths asked the heap {short} times; a long one {long}", SHORT.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_heap::FailingAllocator;

    #[test]
    fn short_paths_never_reach_the_heap() {
        let nothing = FailingAllocator::new(SystemAllocator);
        nothing.refuse_allocs(..);
        let answers = SHORT.map(|path| normalised(path, &nothing, str::to_owned).unwrap());
        assert_eq!(answers, ["/usr/lib", "/etc/hosts", "/a/b/c", ""]);
        assert_eq!(nothing.allocs(), 0);
        assert_eq!(normalised(&"/terrace".repeat(1000), &nothing, str::len), Err(AllocError));
    }

    #[test]
    fn long_paths_do_and_the_answer_is_the_same() {
        let long = "/terrace".repeat(1000);
        assert_eq!(normalised(&long, &SystemAllocator, str::to_owned).unwrap(), long);
        let (short, long) = requests().unwrap();
        assert_eq!(short, 0);
        assert!(long > 0);
    }
}
