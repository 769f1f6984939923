//! The cells of `smp.toml`: what is done, how much of it, and what its figure counts.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Deserialize)]
pub struct Cells {
    rounds: usize,
    quick_rounds: usize,
    quick: usize,
    cell: Vec<Cell>,
}

/// One row of the table.
#[derive(Deserialize, Clone, Debug)]
pub struct Cell {
    pub name: String,
    pub kind: Kind,
    /// Bytes of the smallest block, and of the largest where they differ.
    #[serde(default)]
    pub size: usize,
    #[serde(default)]
    pub size_max: usize,
    /// Bytes of the blocks that come after the freed ones.
    #[serde(default)]
    pub second: usize,
    /// Bytes held at most, where the cell is about memory.
    #[serde(default)]
    pub bytes: usize,
    #[serde(default)]
    pub seed: u64,
    /// Blocks held, of each thread.
    #[serde(default)]
    pub live: usize,
    #[serde(default = "one")]
    pub threads: usize,
    /// Operations of a batch.
    #[serde(default = "one")]
    pub count: usize,
    /// Batches, 0 for as many as most cells.
    #[serde(default)]
    pub rounds: usize,
    /// Each batch in a process of its own.
    #[serde(default)]
    pub fresh: bool,
}

fn one() -> usize {
    1
}

/// What is done.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Pair,
    Touched,
    Lifo,
    Fifo,
    Replace,
    Handover,
    Mixed,
    Realloc,
    ReallocPages,
    Calloc,
    Births,
    FragmentRegular,
    FragmentRandom,
    Left,
    LeftTrim,
    LeftIdle,
    Instructions,
}

/// What a figure counts.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds of an operation.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Resident bytes over live ones.
    #[serde(rename = "resident/live")]
    ResidentOverLive,
    /// MiB resident.
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "instructions")]
    Instructions,
}

/// Every kind and its name on a command line.
pub const KINDS: [(Kind, &str); 17] = [
    (Kind::Pair, "pair"),
    (Kind::Touched, "touched"),
    (Kind::Lifo, "lifo"),
    (Kind::Fifo, "fifo"),
    (Kind::Replace, "replace"),
    (Kind::Handover, "handover"),
    (Kind::Mixed, "mixed"),
    (Kind::Realloc, "realloc"),
    (Kind::ReallocPages, "realloc_pages"),
    (Kind::Calloc, "calloc"),
    (Kind::Births, "births"),
    (Kind::FragmentRegular, "fragment_regular"),
    (Kind::FragmentRandom, "fragment_random"),
    (Kind::Left, "left"),
    (Kind::LeftTrim, "left_trim"),
    (Kind::LeftIdle, "left_idle"),
    (Kind::Instructions, "instructions"),
];

impl Cells {
    /// What the file says.
    pub fn load() -> Result<Self> {
        toml::from_str(include_str!("../../smp.toml")).context("peers/smp.toml")
    }

    /// The cells to run: all, or those whose name contains one of `only`, shortened where asked.
    pub fn chosen(self, only: &[String], quick: bool, rounds: Option<usize>) -> Vec<Cell> {
        let named = |cell: &Cell| only.is_empty() || only.iter().any(|part| cell.name.contains(part.as_str()));
        let mut chosen: Vec<Cell> = self.cell.into_iter().filter(named).collect();
        for cell in &mut chosen {
            let usual = if cell.rounds == 0 { self.rounds } else { cell.rounds };
            let wanted = if quick { self.quick_rounds.min(usual) } else { usual };
            // A count is the same each time.
            let once = cell.kind == Kind::Instructions;
            cell.rounds = if once { 1 } else { rounds.unwrap_or(wanted).max(1) };
            if quick {
                cell.count = (cell.count / self.quick).max(1);
                cell.bytes /= self.quick;
                if cell.live >= 100_000 {
                    cell.live /= self.quick;
                }
            }
        }
        chosen
    }
}

impl Cell {
    /// What its figure counts.
    pub fn unit(&self) -> Unit {
        match self.kind {
            Kind::FragmentRegular | Kind::FragmentRandom => Unit::ResidentOverLive,
            Kind::Left | Kind::LeftTrim | Kind::LeftIdle => Unit::Mebibytes,
            Kind::Instructions => Unit::Instructions,
            _ => Unit::Nanoseconds,
        }
    }

    /// Whether single calls of it can be timed for percentiles: one thread, calls that are not all alike long.
    pub fn sampled(&self) -> bool {
        let kinds = [Kind::Pair, Kind::Lifo, Kind::Fifo, Kind::Replace, Kind::Mixed, Kind::Calloc];
        self.threads == 1 && kinds.contains(&self.kind)
    }

    /// The words that tell a child what to do; [`Cell::from_words`] reads them back.
    pub fn words(&self) -> Vec<String> {
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("pair", |(_, name)| name);
        let numbers = [self.size, self.size_max, self.second, self.bytes, self.live, self.threads, self.count];
        let numbers = numbers.iter().map(ToString::to_string).chain([self.seed.to_string()]);
        std::iter::once(kind.to_owned()).chain(numbers).collect()
    }

    /// A cell from the words of a command line; its name, rounds and `fresh` stay with the parent.
    pub fn from_words(words: &[String]) -> Option<Self> {
        let [kind, numbers @ ..] = words else { return None };
        let kind = KINDS.iter().find(|(_, name)| name == kind)?.0;
        let mut numbers = numbers.iter().map(|word| word.parse::<usize>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            name: String::new(),
            kind,
            size: next()?,
            size_max: next()?,
            second: next()?,
            bytes: next()?,
            live: next()?,
            threads: next()?,
            count: next()?,
            seed: next()? as u64,
            rounds: 1,
            fresh: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Cell> {
        Cells::load().expect("smp.toml").chosen(&[], false, None)
    }

    /// The list of the issue, one line a cell.
    #[test]
    fn every_promised_cell_is_there_and_no_other() {
        let promised: [(Kind, usize, usize, usize); 26] = [
            (Kind::Pair, 16, 0, 1),
            (Kind::Pair, 64, 0, 1),
            (Kind::Pair, 1 << 10, 0, 1),
            (Kind::Pair, 32 << 10, 0, 1),
            (Kind::Lifo, 64, 1000, 1),
            (Kind::Fifo, 64, 1000, 1),
            (Kind::Replace, 16, 10_000, 1),
            (Kind::Replace, 16, 1_000_000, 1),
            (Kind::Replace, 16, 10_000, 2),
            (Kind::Replace, 16, 10_000, 4),
            (Kind::Replace, 16, 10_000, 8),
            (Kind::Handover, 64, 0, 2),
            (Kind::Mixed, 0, 36_928, 1),
            (Kind::Realloc, 16, 0, 1),
            (Kind::ReallocPages, 1 << 20, 0, 1),
            (Kind::Pair, 1 << 20, 0, 1),
            (Kind::Touched, 1 << 20, 0, 1),
            (Kind::Calloc, 64, 0, 1),
            (Kind::Calloc, 64 << 10, 0, 1),
            (Kind::Births, 16, 100, 1),
            (Kind::FragmentRegular, 64, 0, 1),
            (Kind::FragmentRandom, 16, 0, 1),
            (Kind::Left, 0, 0, 1),
            (Kind::LeftTrim, 0, 0, 1),
            (Kind::LeftIdle, 0, 0, 1),
            (Kind::Instructions, 64, 0, 1),
        ];
        let there: Vec<_> = all().iter().map(|cell| (cell.kind, cell.size, cell.live, cell.threads)).collect();
        assert_eq!(there, promised);
        let ends: Vec<_> = all().iter().filter(|cell| cell.name.starts_with("realloc")).map(|c| c.size_max).collect();
        assert_eq!(ends, [1 << 20, 256 << 20]);
    }

    #[test]
    fn names_differ_and_fit_the_table() {
        let cells = all();
        for (index, cell) in cells.iter().enumerate() {
            assert!(cell.name.len() <= 28, "{}", cell.name);
            assert!(cells[..index].iter().all(|other| other.name != cell.name), "{}", cell.name);
        }
    }

    #[test]
    fn a_child_is_told_the_whole_cell() {
        for cell in all() {
            let told = Cell::from_words(&cell.words()).expect("words that are understood");
            assert_eq!(told.words(), cell.words(), "{}", cell.name);
            assert_eq!(told.kind, cell.kind);
        }
        assert!(Cell::from_words(&["pair".into(), "16".into()]).is_none());
        assert!(Cell::from_words(&["nothing".into()]).is_none());
    }

    #[test]
    fn the_quick_form_keeps_every_cell_and_shortens_it() {
        let quick = Cells::load().expect("smp.toml").chosen(&[], true, None);
        for (quick, full) in quick.iter().zip(all()) {
            assert_eq!(quick.name, full.name);
            assert!(quick.rounds <= full.rounds && quick.count <= full.count && quick.live <= full.live);
        }
        let named = Cells::load().expect("smp.toml").chosen(&["pair 64".into(), "8 threads".into()], false, Some(3));
        assert_eq!(
            named.iter().map(|cell| (&*cell.name, cell.rounds)).collect::<Vec<_>>(),
            [("pair 64 B", 3), ("replace, 8 threads", 3)]
        );
    }
}
