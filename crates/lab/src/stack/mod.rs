//! The stack of allocators as an expression: `arena(page)`, `fixed(64KiB)`, `system`.
//!
//! ```text
//! text ──parse──▶ Stack ──Display──▶ the same text, spelled one way
//!                   │
//!                   └──▶ crate::replay::dispatch makes the allocator
//! ```
//!
//! - **I1** Printing a `Stack` and parsing what was printed gives an equal `Stack`.
//! - **I2** No text makes the parser panic or recurse deeper than [`MAX_DEPTH`].
#![forbid(unsafe_code)]

mod parse;
mod suggest;

use std::fmt;

pub use parse::ParseError;

/// Layers that may stand on one another in one expression; deeper is a mistake or an attack.
pub const MAX_DEPTH: usize = 32;

/// Allocators that stand on one another, the outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    /// `page`: the operating system's pages.
    Page,
    /// `system`: the C library's malloc.
    System,
    /// `mimalloc`: a peer, there when the lab was built with the feature of that name.
    Mimalloc,
    /// `arena(backing)`.
    Arena(Box<Stack>),
    /// `fixed(SIZE)`: one buffer of so many bytes.
    Fixed(u64),
}

impl Stack {
    /// The stack that `text` writes.
    ///
    /// # Errors
    /// Where `text` is no stack; the error shows the character and what was expected there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }

    /// Whether many threads may call it at once: what `Sync` says of its Rust type.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Page | Self::System | Self::Mimalloc => true,
            Self::Arena(_) | Self::Fixed(_) => false,
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page => f.write_str("page"),
            Self::System => f.write_str("system"),
            Self::Mimalloc => f.write_str("mimalloc"),
            Self::Arena(backing) => write!(f, "arena({backing})"),
            Self::Fixed(bytes) => write!(f, "fixed({})", Size(*bytes)),
        }
    }
}

/// A number of bytes, printed in the largest unit that divides it.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The units of a SIZE, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// How each word is written, as the help and the errors list them.
pub const WORDS: [(&str, &str); 5] = [
    ("page", "the operating system's pages, one mapping a block"),
    ("system", "the C library's malloc"),
    ("arena(STACK)", "blocks side by side in big pieces of STACK, all given back at the end"),
    ("fixed(SIZE)", "one buffer of SIZE bytes, for instance fixed(64KiB)"),
    ("mimalloc", "the peer of that name (build with --features mimalloc)"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_stack() -> impl Strategy<Value = Stack> {
        let size = prop_oneof![1..=u64::MAX, (1u64..1 << 30).prop_map(|n| n << 10), Just(1u64 << 63)];
        let mut leaves =
            vec![Just(Stack::Page).boxed(), Just(Stack::System).boxed(), size.prop_map(Stack::Fixed).boxed()];
        if cfg!(feature = "mimalloc") {
            leaves.push(Just(Stack::Mimalloc).boxed());
        }
        let leaf = proptest::strategy::Union::new(leaves);
        leaf.prop_recursive(8, 8, 1, |inner| inner.prop_map(|stack| Stack::Arena(Box::new(stack))))
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_stack(stack in any_stack()) {
            prop_assert_eq!(Stack::parse(&stack.to_string()).unwrap(), stack);
        }

        #[test]
        fn spaces_are_free(stack in any_stack(), spaces in proptest::collection::vec(0usize..3, 64)) {
            let mut gaps = spaces.into_iter().cycle();
            let spaced = stack.to_string().replace('(', " ( ").replace(')', &format!("{})", " ".repeat(gaps.next().unwrap())));
            prop_assert_eq!(Stack::parse(&format!("  {spaced}\t")).unwrap(), stack);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            if let Err(error) = Stack::parse(&text) {
                let _ = error.to_string();
            }
        }

        #[test]
        fn no_text_of_its_own_letters_makes_the_parser_panic(text in "[a-ik-z0-9KMGiB(), é]{0,60}") {
            if let Err(error) = Stack::parse(&text) {
                let _ = error.to_string();
            }
        }
    }
}
