//! [`Breach`]: one broken clause of the contract, as a value; its text says what to do.
#![forbid(unsafe_code)]

use std::{
    fmt,
    panic::Location,
    ptr::NonNull,
    sync::{Arc, Mutex, PoisonError},
};

use terrace_core::Alignment;

/// A block as a monitor remembers it: numbers only, so that it may outlive the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it starts.
    pub address: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The alignment that was asked for.
    pub alignment: Alignment,
}

impl Block {
    pub(crate) fn of(memory: NonNull<[u8]>, alignment: Alignment) -> Self {
        Self { address: memory.addr().get(), len: memory.len(), alignment }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} ({} bytes, alignment {})", self.address, self.len, self.alignment.bytes())
    }
}

/// On which side of the monitor the layer under suspicion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The monitor watches an allocator for a program: wrong pointers are the program's fault (clause 1).
    Top,
    /// The monitor is the backing of a layer: wrong pointers are that layer's fault (clause 11).
    Backing,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A block was handed out over a live one.
    Overlap {
        /// The new block.
        block: Block,
        /// The live one.
        other: Block,
    },
    /// A block starts at no multiple of its alignment.
    Misaligned {
        /// The block.
        block: Block,
    },
    /// `owns` denied a live block.
    NotOwned {
        /// The address that was asked about.
        address: usize,
    },
    /// A live block changed though nobody touched it.
    Trampled {
        /// The block.
        block: Block,
        /// The first byte that changed.
        offset: usize,
    },
    /// A call named a block that is not live: never handed out, freed before, or of another allocator.
    NotLive {
        /// What was named.
        block: Block,
    },
    /// A call named a live block with another length or alignment than it has.
    Mistaken {
        /// What was named.
        block: Block,
        /// What is live there.
        live: Block,
    },
    /// A block over `isize::MAX` bytes, or so near to it that no memory holds it.
    TooLong {
        /// The block.
        block: Block,
    },
    /// A refused call changed the bytes of a block.
    RefusalChangedBlock {
        /// The block.
        block: Block,
        /// The first byte that changed.
        offset: usize,
    },
    /// A refused call left other blocks with the backing than before.
    RefusalChangedBacking,
    /// A granted resize or remap lost bytes that it had to keep.
    LostContents {
        /// The block as it is now.
        block: Block,
        /// The first byte that changed.
        offset: usize,
    },
    /// `alloc_zeroed` handed out a byte that is not zero.
    NotZero {
        /// The block.
        block: Block,
        /// The first such byte.
        offset: usize,
    },
    /// `resize` granted what `remap` had just refused.
    RemapRefused {
        /// The block.
        block: Block,
        /// The length asked for.
        new_len: usize,
    },
    /// A call unwound.
    Unwound {
        /// Which.
        call: &'static str,
    },
    /// A block never went back to the backing.
    NotReturned {
        /// The block.
        block: Block,
    },
    /// Bytes beside a block of the backing were written to.
    WroteOutside {
        /// The block.
        block: Block,
    },
    /// A block was written to after it went back to the backing.
    WroteAfterFree {
        /// The block.
        block: Block,
        /// The first byte that changed.
        offset: usize,
    },
}

/// A broken clause of [`Allocator`](terrace_core::Allocator)'s contract. The first of several is the one to
/// believe: others may follow from it.
#[derive(Clone, Copy, Debug)]
pub struct Breach {
    /// The number of the clause.
    pub clause: u8,
    /// What was seen.
    pub finding: Finding,
    /// The line that made the call, or that made the monitor where no call is to blame.
    pub site: &'static Location<'static>,
}

impl Breach {
    pub(crate) fn new(finding: Finding, role: Role, site: &'static Location<'static>) -> Self {
        Self { clause: clause(&finding, role), finding, site }
    }
}

fn clause(finding: &Finding, role: Role) -> u8 {
    use Finding as F;
    match finding {
        F::Overlap { .. } | F::Misaligned { .. } | F::NotOwned { .. } | F::Trampled { .. } => 1,
        F::NotLive { .. } | F::Mistaken { .. } if role == Role::Top => 1,
        F::TooLong { .. } => 2,
        F::RefusalChangedBlock { .. } | F::RefusalChangedBacking => 3,
        F::LostContents { .. } | F::NotZero { .. } | F::RemapRefused { .. } => 4,
        F::Unwound { .. } => 10,
        F::NotLive { .. } | F::Mistaken { .. } => 11,
        F::NotReturned { .. } | F::WroteOutside { .. } | F::WroteAfterFree { .. } => 11,
    }
}

/// The clause's name in the contract.
fn name(clause: u8) -> &'static str {
    const NAMES: [&str; 11] = [
        "Live",
        "Size",
        "Refusal",
        "Contents",
        "Provenance",
        "Threads",
        "Place",
        "End",
        "Copies",
        "Calm",
        "Discipline",
    ];
    NAMES[usize::from(clause) - 1]
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause {} ({}): {}; at {}", self.clause, name(self.clause), self.finding, self.site)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap { block, other } => {
                write!(f, "{block} lies over the live block {other}: hand out only bytes that no live block has")
            }
            Self::Misaligned { block } => write!(f, "{block} is misaligned: round the address up, not the offset"),
            Self::NotOwned { address } => {
                write!(f, "`owns` denies {address:#x} inside a live block: answer for all that is handed out")
            }
            Self::Trampled { block, offset } => {
                write!(f, "byte {offset} of {block} changed unasked: write only to blocks that are not handed out")
            }
            Self::NotLive { block } => {
                write!(f, "{block} is not live here: give back what was handed out, once, to whom it came from")
            }
            Self::Mistaken { block, live } => {
                write!(f, "{block} was named where {live} lives: name the length and alignment of the last grant")
            }
            Self::TooLong { block } => write!(f, "{block} is more than any memory holds: refuse such a request"),
            Self::RefusalChangedBlock { block, offset } => {
                write!(f, "byte {offset} of {block} changed in a call that was refused: decide before you write")
            }
            Self::RefusalChangedBacking => f.write_str(
                "the backing holds other blocks after a refused call than before: give back what the attempt took",
            ),
            Self::LostContents { block, offset } => {
                write!(f, "byte {offset} of {block} was lost: keep the first min(old, new) bytes")
            }
            Self::NotZero { block, offset } => {
                write!(f, "byte {offset} of {block} is not zero: zero all of it, or ask the backing for zeroes")
            }
            Self::RemapRefused { block, new_len } => write!(
                f,
                "`remap` of {block} to {new_len} bytes was refused, `resize` granted it: remap must try resize first"
            ),
            Self::Unwound { call } => write!(f, "`{call}` unwound: return an error instead of a panic"),
            Self::NotReturned { block } => write!(f, "{block} never went back: free it in drop"),
            Self::WroteOutside { block } => {
                write!(f, "bytes beside the backing's {block} were written to: stay inside the length asked for")
            }
            Self::WroteAfterFree { block, offset } => {
                write!(f, "byte {offset} of {block} was written to after it went back: read headers before you free")
            }
        }
    }
}

/// Hears of breaches. It runs with no lock held and may allocate; a panic in it aborts (clause 10).
///
/// Any `Fn(&Breach)` that threads may share is one.
pub trait Handler: Send + Sync {
    /// One breach, in the thread that made the call.
    fn breach(&self, breach: &Breach);
}

impl<F: Fn(&Breach) + Send + Sync> Handler for F {
    fn breach(&self, breach: &Breach) {
        self(breach);
    }
}

/// The default handler: keeps the breaches. A clone is a handle to the same list.
#[derive(Clone, Default)]
pub struct Reports(Arc<Mutex<Vec<Breach>>>);

impl Reports {
    /// All so far, oldest first.
    pub fn breaches(&self) -> Vec<Breach> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there was none so far.
    pub fn is_clean(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// For the end of a test.
    ///
    /// # Panics
    /// With the text of each breach, where there was one.
    #[track_caller]
    pub fn assert_clean(&self) {
        let breaches = self.breaches();
        assert!(breaches.is_empty(), "{} breaches of the contract\n{}", breaches.len(), Lines(&breaches));
    }
}

impl Handler for Reports {
    fn breach(&self, breach: &Breach) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(*breach);
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.breaches()).finish()
    }
}

/// One breach a line, with the line of code that made the call.
pub(crate) struct Lines<'a>(pub(crate) &'a [Breach]);

/// One breach a line, where a script says what was called.
pub(crate) struct Clauses<'a>(pub(crate) &'a [Breach]);

impl fmt::Display for Clauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Breach { clause, finding, .. }| {
            writeln!(f, "  clause {clause} ({}): {finding}", name(*clause))
        })
    }
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|breach| writeln!(f, "  {breach}"))
    }
}
