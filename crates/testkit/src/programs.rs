//! Random programs: made by proptest, run with every backing call refused in turn, shrunk to a script.
//!
//! ```text
//!  seed ─▶ script ─▶ run as it is ─▶ run with call 1, 2, 3 … refused, alone and from there on
//!                        │ breach
//!                        ▼
//!                   shrink: fewer steps, smaller numbers ─▶ Failure: the script to paste, and the clause
//! ```
//!
//! Cost: steps² a program for a layer that asks its backing at each step, steps for one that seldom does.

use std::{cell::Cell, env, fmt};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use terrace_core::Alignment;

use crate::{
    Check, Start,
    breach::{Breach, Clauses},
    failing::Refusal,
    runner::run,
    script::{Op, Script, Setup},
};

/// How many programs, and which.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// How many. By default the environment variable `TERRACE_PROGRAMS`, else 64.
    pub count: u32,
    /// The most steps of one.
    pub longest: usize,
    /// Where the random numbers start. By default the environment variable `TERRACE_SEED`, else 0.
    pub seed: u64,
    /// Whether each program is also run with every call of the backing refused in turn. By default yes, unless the environment
    /// variable `TERRACE_REFUSALS` is `none`: many programs then take the time of a few.
    pub failures: bool,
}

impl Default for Programs {
    fn default() -> Self {
        let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
        let count = number("TERRACE_PROGRAMS").and_then(|n: u64| n.try_into().ok()).unwrap_or(64);
        let failures = env::var_os("TERRACE_REFUSALS").is_none_or(|said| said != "none");
        Self { count, longest: 40, seed: number("TERRACE_SEED").unwrap_or(0), failures }
    }
}

/// What was run, when nothing was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Programs.
    pub programs: u64,
    /// Runs of them: each once, and once for each refusal.
    pub runs: u64,
    /// Runs in which a call of the backing was refused.
    pub refused: u64,
    /// Steps taken.
    pub steps: u64,
}

/// A program that broke the contract, cut down to what is needed for that.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Ends with the step that broke it.
    pub script: Script,
    /// The first is the one to believe.
    pub breaches: Vec<Breach>,
}

impl Failure {
    /// The clause that was broken first.
    pub fn clause(&self) -> u8 {
        self.breaches.first().map_or(0, |breach| breach.clause)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (script, clauses) = (&self.script, Clauses(&self.breaches));
        write!(f, "the contract is broken by this script, after which what is live is freed:\n\n{script}\n{clauses}")
    }
}

impl std::error::Error for Failure {}

/// Runs random programs over what `make` makes; see [`Check`] for how it is written.
///
/// # Errors
/// The [`Failure`] of the shortest program that was found.
pub fn programs(options: &Programs, make: impl Fn(&Start, &mut Check<'_>)) -> Result<Summary, Box<Failure>> {
    let config = Config { cases: options.count, failure_persistence: None, ..Config::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&options.seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let summary = Cell::new(Summary::default());
    // Shrinking goes on from the last script that failed, so that one is the shortest.
    let shortest = Cell::new(None);
    let result = runner.run(&scripts(options.longest), |script| {
        let mut sum = summary.get();
        let outcome = run_with_refusals(&script, options.failures, &mut sum, &make);
        summary.set(sum);
        outcome.map_err(|failure| {
            shortest.set(Some(failure));
            TestCaseError::fail("")
        })
    });
    match (result, shortest.take()) {
        (Ok(()), _) => Ok(summary.get()),
        (Err(_), Some(failure)) => Err(failure),
        (Err(error), None) => panic!("proptest gave up: {error}"),
    }
}

/// One program: as it is, then with each call of the backing refused alone, and with all from it on.
pub(crate) fn run_with_refusals(
    script: &Script,
    failures: bool,
    sum: &mut Summary,
    make: &impl Fn(&Start, &mut Check<'_>),
) -> Result<(), Box<Failure>> {
    let plain = run(script, make)?;
    sum.programs += 1;
    sum.runs += 1;
    sum.steps += plain.steps;
    if !failures {
        return Ok(());
    }
    for plan in [Refusal::Nth, Refusal::From] {
        // A refusal may lead to calls that the plain run did not make; those are refused in their turn.
        let mut most = plain.asked;
        let mut n = 1;
        while n <= most {
            let refused = run(&Script { refusal: plan(n), ..script.clone() }, make)?;
            most = most.max(refused.asked.min(2 * plain.asked));
            n += 1;
            sum.runs += 1;
            sum.refused += 1;
            sum.steps += refused.steps;
        }
    }
    Ok(())
}

/// Random scripts of at most `longest` steps, start state included.
pub fn scripts(longest: usize) -> impl Strategy<Value = Script> {
    (setups(), prop::collection::vec(ops(), 1..=longest)).prop_map(|(setup, ops)| Script {
        setup,
        refusal: Refusal::Never,
        ops,
    })
}

fn setups() -> impl Strategy<Value = Setup> {
    let offset = prop_oneof![Just(0usize), 1usize..64];
    let chunk = prop_oneof![1usize..200, 200usize..5000, Just(1usize << 16)];
    let limit = prop_oneof![1 => 1usize..5000, 1 => 5000usize..100_000, 3 => Just(1usize << 26)];
    (offset, chunk, limit, any::<[bool; 3]>()).prop_map(|(offset, chunk, limit, [grows, moves, reuses])| Setup {
        offset,
        chunk,
        limit,
        grows,
        moves,
        reuses,
    })
}

fn ops() -> impl Strategy<Value = Op> {
    let alignment = prop_oneof![6 => 0u32..5, 2 => 5u32..13, 1 => 13u32..17]
        .prop_map(|log2| Alignment::from_log2(log2).unwrap_or(Alignment::ONE));
    prop_oneof![
        4 => (lens(), alignment.clone()).prop_map(|(len, alignment)| Op::Alloc { len, alignment }),
        1 => (lens(), alignment).prop_map(|(len, alignment)| Op::AllocZeroed { len, alignment }),
        2 => (0usize..16, lens()).prop_map(|(block, len)| Op::Resize { block, len }),
        2 => (0usize..16, lens()).prop_map(|(block, len)| Op::Remap { block, len }),
        3 => (0usize..16).prop_map(|block| Op::Free { block }),
    ]
}

fn lens() -> impl Strategy<Value = usize> {
    let impossible = prop_oneof![
        (0usize..5000).prop_map(|below| usize::MAX - below),
        (0usize..100).prop_map(|below| isize::MAX as usize - below),
        Just(isize::MAX as usize + 1),
    ];
    prop_oneof![20 => 1usize..=64, 10 => 1usize..=1000, 3 => 1usize..=20_000, 1 => impossible]
}
