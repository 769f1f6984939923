//! [`Script`]: a program of operations, one a line, to be read, pasted back and run again.
//!
//! ```text
//! start offset 3 chunk 512 limit 65536 grows reuses       the start state
//! refuse nth 2                                            what the backing refuses
//! alloc 24 align 8                                        blocks are numbered by age: 0 is the oldest
//! resize 0 48                                             that is live
//! free 0
//! ```
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

use terrace_core::Alignment;

use crate::failing::Refusal;

/// The state in which a program finds the allocator and its backing. All of it is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Bytes by which a buffer is off a round address.
    pub offset: usize,
    /// A size for the maker to use as it likes: of a buffer, of the first chunk.
    pub chunk: usize,
    /// The most bytes that the backing gives; the maker may use it as a limit too.
    pub limit: usize,
    /// Whether the backing lets blocks grow in place.
    pub grows: bool,
    /// Whether the backing's `remap` moves blocks.
    pub moves: bool,
    /// Whether the backing hands out again what came back.
    pub reuses: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { offset: 0, chunk: 4096, limit: 1 << 26, grows: false, moves: false, reuses: false }
    }
}

/// One step. `block` counts the live blocks, oldest first, and wraps around; without any, the step is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `alloc`.
    Alloc {
        /// Bytes; 0 is taken for 1.
        len: usize,
        /// The alignment.
        alignment: Alignment,
    },
    /// `alloc_zeroed`.
    AllocZeroed {
        /// Bytes; 0 is taken for 1.
        len: usize,
        /// The alignment.
        alignment: Alignment,
    },
    /// `resize`.
    Resize {
        /// Which.
        block: usize,
        /// Bytes; 0 is taken for 1.
        len: usize,
    },
    /// `remap`.
    Remap {
        /// Which.
        block: usize,
        /// Bytes; 0 is taken for 1.
        len: usize,
    },
    /// `free`.
    Free {
        /// Which.
        block: usize,
    },
}

/// Start state, refusals, operations. Reads what it prints.
///
/// ```
/// use terrace_testkit::Script;
///
/// let script: Script = "alloc 24 align 8\nresize 0 48\nfree 0".parse().unwrap();
/// assert_eq!(script.ops.len(), 3);
/// assert_eq!(script.to_string().parse(), Ok(script));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// The start state.
    pub setup: Setup,
    /// What the backing refuses.
    pub refusal: Refusal,
    /// The steps.
    pub ops: Vec<Op>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.setup)?;
        match self.refusal {
            Refusal::Never => {}
            Refusal::Nth(n) => writeln!(f, "refuse nth {n}")?,
            Refusal::From(n) => writeln!(f, "refuse from {n}")?,
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start offset {} chunk {} limit {}", self.offset, self.chunk, self.limit)?;
        let flags = [("grows", self.grows), ("moves", self.moves), ("reuses", self.reuses)];
        flags.iter().filter(|(_, set)| *set).try_for_each(|(name, _)| write!(f, " {name}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc { len, alignment } => write!(f, "alloc {len} align {}", alignment.bytes()),
            Self::AllocZeroed { len, alignment } => write!(f, "alloc_zeroed {len} align {}", alignment.bytes()),
            Self::Resize { block, len } => write!(f, "resize {block} {len}"),
            Self::Remap { block, len } => write!(f, "remap {block} {len}"),
            Self::Free { block } => write!(f, "free {block}"),
        }
    }
}

/// A line that is no line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAScript {
    /// Its number, from 1.
    pub line: usize,
}

impl fmt::Display for NotAScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is no line of a script", self.line)
    }
}

impl std::error::Error for NotAScript {}

impl FromStr for Script {
    type Err = NotAScript;

    fn from_str(text: &str) -> Result<Self, NotAScript> {
        let mut script = Self::default();
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            script.take_line(&words).ok_or(NotAScript { line: index + 1 })?;
        }
        Ok(script)
    }
}

impl Script {
    fn take_line(&mut self, words: &[&str]) -> Option<()> {
        match *words {
            [] => {}
            ["start", "offset", offset, "chunk", chunk, "limit", limit, ref flags @ ..] => {
                let known = flags.iter().all(|flag| ["grows", "moves", "reuses"].contains(flag));
                let set = |name| flags.contains(&name);
                let (offset, chunk, limit) = (number(offset)?, number(chunk)?, number(limit)?);
                let (grows, moves, reuses) = (set("grows"), set("moves"), set("reuses"));
                self.setup = known.then_some(Setup { offset, chunk, limit, grows, moves, reuses })?;
            }
            ["refuse", "nth", n] => self.refusal = Refusal::Nth(number(n)?),
            ["refuse", "from", n] => self.refusal = Refusal::From(number(n)?),
            _ => self.ops.push(op(words)?),
        }
        Some(())
    }
}

fn op(words: &[&str]) -> Option<Op> {
    Some(match *words {
        ["alloc", len, "align", bytes] => Op::Alloc { len: number(len)?, alignment: Alignment::new(number(bytes)?)? },
        ["alloc_zeroed", len, "align", bytes] => {
            Op::AllocZeroed { len: number(len)?, alignment: Alignment::new(number(bytes)?)? }
        }
        ["resize", block, len] => Op::Resize { block: number(block)?, len: number(len)? },
        ["remap", block, len] => Op::Remap { block: number(block)?, len: number(len)? },
        ["free", block] => Op::Free { block: number(block)? },
        _ => return None,
    })
}

fn number(word: &str) -> Option<usize> {
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::programs::scripts;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(mut script in scripts(20), nth in any::<Option<bool>>(), n in 1usize..100) {
            script.refusal = match nth {
                None => Refusal::Never,
                Some(true) => Refusal::Nth(n),
                Some(false) => Refusal::From(n),
            };
            prop_assert_eq!(script.to_string().parse(), Ok(script));
        }
    }

    #[test]
    fn a_line_that_says_nothing_known_is_named() {
        for bad in ["alloc 3", "free", "free x", "alloc 3 align 3", "start offset 1 chunk 2 limit 3 flies", "jump"] {
            let text = format!("free 0\n{bad}\nfree 0");
            assert_eq!(text.parse::<Script>(), Err(NotAScript { line: 2 }), "{bad}");
        }
    }
}
