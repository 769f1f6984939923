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

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

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
    let mut work = Work::new(&cell);
    work.fill();
    let count = work.warm(cell.count);
    while let Some(word) = os::asked() {
        match word {
            b'b' => os::answer([work.timed(count), 0.0, 0.0, 0.0]),
            b's' => os::answer(work.sampled(count)),
            _ => os::answer([os::resident().saturating_sub(table::taken()) as f64, 0.0, 0.0, 0.0]),
        }
    }
    // Threads of the work still wait; nobody does for them.
    std::process::exit(0);
}

/// A batch of one thread.
const LONGEST: Duration = Duration::from_millis(50);

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

    /// Slabs, caches, branch predictors. Says how many operations make a batch: all, but of an allocator that would
    /// take longer than [`LONGEST`] for them so many as fit.
    fn warm(&mut self, count: usize) -> usize {
        self.batch((count / 8).max(1));
        let first = (count / 8).max(1);
        let start = Instant::now();
        self.batch(first);
        let each = start.elapsed().as_secs_f64() / first as f64;
        let fit = (LONGEST.as_secs_f64() / each) as usize;
        match self {
            Self::One(_) => count.min(fit.max(1)),
            Self::Many(_) => count,
        }
    }

    /// Nanoseconds of an operation; before it a little of the same, since others ran on this processor meanwhile. Where
    /// one thread works at a time, it is the process's share of the processor, so that it is the same on a busy machine; where
    /// several do, it is the clock's.
    fn timed(&mut self, count: usize) -> f64 {
        if let Self::One(one) = self {
            one.batch(&mut Plain, count / 8); // Nothing where one operation is a batch.
        }
        let alone = matches!(self, Self::One(_) | Self::Many(Many::Births { .. }));
        let clock = if alone { os::processor_time } else { os::clock_time };
        let start = clock();
        self.batch(black_box(count));
        (clock() - start) as f64 / count as f64
    }

    fn sampled(&mut self, count: usize) -> [f64; 4] {
        let mut calls = Sampled::new(count / 8);
        if let Self::One(one) = self {
            one.batch(&mut calls, count);
        }
        calls.percentiles()
    }
}

/// The loop of a pair with its calls, or without them, for counting; between two signals where `what` says so.
fn counted(what: &str, count: usize) {
    let words = ["pair", "64", "0", "0", "0", "0", "1", "1", "0"].map(String::from);
    let cell = Cell::from_words(&words).expect("the words of a cell");
    let mut one = One::new(&cell);
    one.batch(&mut Plain, 1000); // What comes before the steady state is not counted.
    let marked = what.starts_with("marked");
    let mark = || {
        if marked {
            os::signal()
        }
    };
    mark();
    if what.ends_with("pair") {
        one.batch(&mut Plain, count);
    } else {
        one.batch(&mut calls::Nothing::default(), count);
    }
    mark();
}
