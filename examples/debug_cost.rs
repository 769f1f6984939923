//! What `DebugAllocator` costs over `smp(page)`: time and instructions of an alloc and its free.
//!
//! ```console
//! $ cargo run --release -p terrace-examples --example debug_cost
//! stack                     ns a pair   of smp(page)   instructions a pair      64 bytes, one thread
//! …
//! ```
//!
//! Times are medians of rounds that take turns; so is the ratio, of a round to the round of `smp(page)` beside it. Instructions are the difference of two runs of this program under valgrind's callgrind,
//! one with twice as many pairs; where there is no valgrind the column says so.

use std::{env, hint::black_box, num::NonZeroUsize, process::Command, ptr::NonNull, time::Instant};

use terrace::{
    Alignment, Allocator, DebugAllocator, DebugConfig, PageAllocator, SmpAllocator, ThreadSlots, debug::PrintAndAbort,
};

const LEN: NonZeroUsize = NonZeroUsize::new(64).unwrap();
const WORD: Alignment = Alignment::of::<u64>();
/// A round is short, so that few are interrupted.
const PAIRS: usize = 10_000;
const ROUNDS: usize = 301;

const fn smp() -> SmpAllocator {
    SmpAllocator::with_decommit(PageAllocator, ThreadSlots)
}

const fn debug(config: DebugConfig) -> DebugAllocator<SmpAllocator> {
    DebugAllocator::with_handler(smp(), config, PrintAndAbort)
}

static SMP: SmpAllocator = smp();
static TRACKING: DebugAllocator<SmpAllocator> = debug(DebugConfig::tracking());
static LEAKS: DebugAllocator<SmpAllocator> = debug(DebugConfig { enable_safety: false, ..DebugConfig::new() });
static NO_FILL: DebugAllocator<SmpAllocator> =
    debug(DebugConfig { canaries: 0, fill: false, quarantine: 0, ..DebugConfig::new() });
static ALL: DebugAllocator<SmpAllocator> = debug(DebugConfig::new());
static PAGED: DebugAllocator<PageAllocator> =
    DebugAllocator::with_pages(PageAllocator, DebugConfig { guard_pages: true, ..DebugConfig::new() }, PrintAndAbort);

/// A name, what it runs, and how many times fewer pairs it makes, being slower.
type Stack = (&'static str, fn(usize), usize);

const STACKS: [Stack; 6] = [
    ("smp(page)", |pairs| run(&SMP, pairs), 1),
    ("debug, tracking alone", |pairs| run(&TRACKING, pairs), 1),
    ("debug, tracking and leaks", |pairs| run(&LEAKS, pairs), 4),
    ("debug, calls checked", |pairs| run(&NO_FILL, pairs), 4),
    ("debug, as it comes", |pairs| run(&ALL, pairs), 4),
    ("debug, guard pages", |pairs| run(&PAGED, pairs), 100),
];

/// So many pairs.
#[inline(never)]
fn run<A: Allocator>(allocator: &A, pairs: usize) {
    for _ in 0..pairs {
        let Ok(block) = allocator.alloc(black_box(LEN), WORD) else { continue };
        let memory = NonNull::slice_from_raw_parts(black_box(block), LEN.get());
        // SAFETY: live, not used again.
        unsafe { allocator.free(memory, WORD) };
    }
}

/// Of each stack, medians: nanoseconds a pair, and how many times those of the first stack in the same turn.
fn times(rounds: usize) -> Vec<(f64, f64)> {
    let (mut all, mut ratios) = (vec![Vec::new(); STACKS.len()], vec![Vec::new(); STACKS.len()]);
    for _ in 0..rounds {
        let turn = STACKS.map(|(_, run, fewer)| {
            let start = Instant::now();
            run(PAIRS / fewer);
            start.elapsed().as_nanos() as f64 / (PAIRS / fewer) as f64
        });
        for (stack, time) in turn.into_iter().enumerate() {
            all[stack].push(time);
            ratios[stack].push(time / turn[0]);
        }
    }
    all.iter_mut().zip(&mut ratios).map(|(times, ratios)| (median(times), median(ratios))).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Instructions of so many pairs, and of all that is around them.
fn callgrind(stack: usize, pairs: usize) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args(["run", &stack.to_string(), &pairs.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stderr).ok()?;
    let count = text.lines().find_map(|line| line.split_once("Collected :"))?.1;
    count.trim().parse().ok()
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [_, stack, pairs] = &arguments[..] {
        let number = |text: &String| text.parse::<usize>().expect("a number");
        return STACKS[number(stack)].1(number(pairs));
    }
    println!(
        "{:<26}{:>10}{:>15}{:>22}      64 bytes, one thread",
        "stack", "ns a pair", "of smp(page)", "instructions a pair"
    );
    for (number, (time, ratio)) in times(ROUNDS).into_iter().enumerate() {
        let (few, many) = (callgrind(number, 2000), callgrind(number, 4000));
        let instructions =
            few.zip(many).map_or("no valgrind".into(), |(few, many)| format!("{:.1}", (many - few) / 2000.0));
        println!("{:<26}{time:>10.1}{ratio:>15.2}{instructions:>22}", STACKS[number].0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One round: whether there is a time for each, not which.
    #[test]
    fn each_stack_serves_its_pairs() {
        assert_eq!(times(1).len(), STACKS.len());
    }
}
