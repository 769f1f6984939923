//! The child: does a cell's work with whatever `malloc` it was started with, batch after batch, as the parent asks.
//!
//! It is started as `terrace-peers smp-work WORDS…` and reads one letter at a time from standard input: `b` does a
//! batch and answers how long it took, `s` a batch with single calls timed, `m` answers what is resident. It parses nothing
//! more, so that next to nothing goes through the measured allocator before the work does.

mod calls;
mod many;
mod memory;
mod one;
mod os;
mod table;

use std::{hint::black_box, time::Instant};

use self::{
    calls::{Plain, Sampled},
    many::Many,
    one::One,
};
use super::cells::{Cell, Kind};

/// Does what the words of the command line say, until the parent has no more to ask.
pub fn run(words: &[String]) {
    if words == ["probe"] {
        return os::probe();
    }
    if let [what, count] = words {
        return counted(what, count.parse().unwrap_or(1));
    }
    let Some(cell) = Cell::from_words(words) else {
        eprintln!("smp-work is started by the benchmark itself");
        std::process::exit(2);
    };
    if cell.bytes > 0 {
        while os::asked().is_some() {
            os::answer([memory::figure(&cell), 0.0, 0.0, 0.0]);
        }
        return;
    }
    let before = os::resident();
    let mut work = Work::new(&cell);
    let base = before + table::taken();
    work.fill();
    work.batch(cell.count); // Warm: slabs, caches, branch predictors.
    while let Some(word) = os::asked() {
        match word {
            b'b' => os::answer([work.timed(cell.count), 0.0, 0.0, 0.0]),
            b's' => os::answer(work.sampled(cell.count)),
            _ => os::answer([os::resident().saturating_sub(base) as f64, 0.0, 0.0, 0.0]),
        }
    }
    // Threads of the work still wait; nobody does for them.
    std::process::exit(0);
}

enum Work {
    One(Box<One>),
    Many(Many),
}

impl Work {
    fn new(cell: &Cell) -> Self {
        let several = cell.threads > 1 || cell.kind == Kind::Births;
        if several { Self::Many(Many::new(cell)) } else { Self::One(Box::new(One::new(cell))) }
    }

    fn fill(&mut self) {
        if let Self::One(one) = self {
            one.fill(&mut Plain);
        }
    }

    fn batch(&mut self, count: usize) {
        match self {
            Self::One(one) => one.batch(&mut Plain, count),
            Self::Many(many) => many.batch(count),
        }
    }

    /// Nanoseconds of an operation; before it a little of the same, since others ran on this processor meanwhile.
    fn timed(&mut self, count: usize) -> f64 {
        if let Self::One(one) = self {
            one.batch(&mut Plain, count / 8);
        }
        let start = Instant::now();
        self.batch(black_box(count));
        start.elapsed().as_nanos() as f64 / count as f64
    }

    fn sampled(&mut self, count: usize) -> [f64; 4] {
        let mut calls = Sampled::new(count / 8);
        if let Self::One(one) = self {
            one.batch(&mut calls, count);
        }
        calls.percentiles()
    }
}

/// The loop of a pair with its calls, or without them: for callgrind.
fn counted(what: &str, count: usize) {
    let words = ["pair", "64", "0", "0", "0", "0", "1", "1", "0"].map(String::from);
    let cell = Cell::from_words(&words).expect("the words of a cell");
    let mut one = One::new(&cell);
    one.batch(&mut Plain, 1000); // The same in both: what comes before the steady state falls out of the difference.
    match what {
        "pair" => one.batch(&mut Plain, count),
        _ => one.batch(&mut calls::Nothing::default(), count),
    }
}
