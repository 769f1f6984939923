//! The part of the parser that reads combinators.
//!
//! ```text
//! combined := LAYER "(" bytes ")" | SIZED "(" SIZE "," bytes ")"
//!           | "fallback(" bytes "," bytes ")" | "segregate(" SIZE "," bytes "," bytes ")"
//!           | "bucketize(" SIZE { "," bytes } ")"
//! LAYER    := "lock" | "stats" | "affix" | "zeroed"
//! SIZED    := "limit" | "free_list" | "pressure"
//! ```
//!
//! Cost: one pass over the text.
#![forbid(unsafe_code)]

use super::{ParseError, Parser};
use crate::stack::{
    Stack,
    combined::{Combined, Layer, MAX_BUCKETS},
};

impl Parser<'_> {
    /// What stands behind `word`, where that is a combinator's.
    pub(super) fn combined(&mut self, word: &str, depth: usize) -> Option<Result<Stack, ParseError>> {
        let combined = match word {
            "fallback" => self.fallback(depth),
            "segregate" => self.segregate(depth),
            "bucketize" => self.bucketize(depth),
            "on_oom" => Err(self.no_replay(word, "its hook frees what only a program knows")),
            "compressed" => Err(self.no_replay(word, "it hands out handles in place of blocks")),
            _ => self.layer(Layer::named(word, 0)?, depth),
        };
        Some(combined.map(Stack::Combined))
    }

    /// For what there is in Rust, and not here.
    fn no_replay(&self, word: &str, why: &str) -> ParseError {
        let width = word.chars().count();
        let message = format!("{word} makes no sense in a replay: {why}");
        self.error(self.at - width, width, message, "leave it out")
    }

    fn layer(&mut self, layer: Layer, depth: usize) -> Result<Combined, ParseError> {
        let (word, size) = layer.word();
        if size.is_none() {
            return Ok(Combined::Layer(layer, self.backing(word, depth)?));
        }
        let (size, backing) = self.size_and_backing(&format!("{word}(1MiB, page)"), depth)?;
        Ok(Combined::Layer(Layer::named(word, size).unwrap_or(layer), backing))
    }

    fn fallback(&mut self, depth: usize) -> Result<Combined, ParseError> {
        let example = "fallback(fixed(64KiB), page)";
        self.expect('(', &format!("two stacks, as in {example}"))?;
        self.skip_spaces();
        let start = self.at;
        let first = self.stack(depth + 1)?;
        if let Some(stranger) = first.stranger() {
            let message =
                format!("{stranger} does not know its own blocks, so nobody could tell whom to give one back to");
            let remedy = format!("put something first that does, as in {example} or arena({first})");
            return Err(self.error(start, self.at - start, message, remedy));
        }
        let second = self.next_stack(example, depth)?;
        Ok(Combined::Fallback(Box::new(first), second))
    }

    fn segregate(&mut self, depth: usize) -> Result<Combined, ParseError> {
        let example = "segregate(256, pool(256, page), smp(page))";
        self.expect('(', &format!("a size, as in {example}"))?;
        let size = self.size(example)?;
        self.expect(',', &format!("a comma and two stacks, as in {example}"))?;
        let small = Box::new(self.stack(depth + 1)?);
        Ok(Combined::Segregate(size, small, self.next_stack(example, depth)?))
    }

    fn bucketize(&mut self, depth: usize) -> Result<Combined, ParseError> {
        let example = "bucketize(64, pool(64, page), pool(128, page))";
        self.expect('(', &format!("a size, as in {example}"))?;
        let step = self.size(example)?;
        self.expect(',', &format!("a comma and a stack for each step, as in {example}"))?;
        let mut buckets = Vec::new();
        loop {
            self.skip_spaces();
            if buckets.len() == MAX_BUCKETS {
                let message = format!("more than {MAX_BUCKETS} steps");
                return Err(self.error(self.at, 1, message, "make SIZE larger, or nest it in a segregate"));
            }
            buckets.push(self.stack(depth + 1)?);
            self.skip_spaces();
            if self.peek() != Some(',') {
                break;
            }
            self.at += 1;
        }
        self.expect(')', &format!("another stack or the end, as in {example}"))?;
        Ok(Combined::Bucketize(step, buckets))
    }

    /// The last stack in the brackets of `example`.
    fn next_stack(&mut self, example: &str, depth: usize) -> Result<Box<Stack>, ParseError> {
        self.expect(',', &format!("a comma and another stack, as in {example}"))?;
        let stack = self.stack(depth + 1)?;
        self.expect(')', &format!("the end, as in {example}"))?;
        Ok(Box::new(stack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Stack::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn combinators_are_read() {
        let page = || Box::new(Stack::Page);
        let arena = || Box::new(Stack::Arena(page()));
        for (text, combined) in [
            ("limit( 16MiB , page )", Combined::Layer(Layer::Limit(16 << 20), page())),
            ("free_list(4KiB, page)", Combined::Layer(Layer::FreeList(4 << 10), page())),
            ("lock(arena(page))", Combined::Layer(Layer::Lock, arena())),
            ("affix(page)", Combined::Layer(Layer::Affix, page())),
            ("pressure(1MiB, page)", Combined::Layer(Layer::Pressure(1 << 20), page())),
            ("zeroed(page)", Combined::Layer(Layer::Zeroed, page())),
            ("stats(page)", Combined::Layer(Layer::Stats, page())),
            ("fallback(arena(page),page)", Combined::Fallback(arena(), page())),
            ("segregate(256, arena(page), page)", Combined::Segregate(256, arena(), page())),
            ("bucketize(64,arena(page) ,page)", Combined::Bucketize(64, vec![*arena(), Stack::Page])),
        ] {
            assert_eq!(Stack::parse(text), Ok(Stack::Combined(combined)), "{text}");
        }
    }

    #[test]
    fn combinators_that_lack_something_show_how_they_are_written() {
        assert!(error("limit(page)").contains("expected a number of bytes"));
        assert!(error("limit(1MiB)").contains("as in limit(1MiB, page)"));
        assert!(error("lock()").contains("a stack is missing here") || error("lock()").contains("begins no stack"));
        assert!(error("fallback(arena(page))").contains("a comma and another stack, as in fallback("));
        assert!(error("segregate(256, page)").contains("a comma and another stack, as in segregate("));
        assert!(error("segregate(page, page)").contains("expected a number of bytes"));
        assert!(error("segregate(256, page, page, page)").contains("the end, as in segregate("));
        assert!(error("bucketize(64)").contains("a comma and a stack for each step"));
        assert!(error("bucketize(64, page").contains("another stack or the end, as in bucketize("));
        assert!(error(&format!("bucketize(64{})", ", page".repeat(9))).contains("more than 8 steps"));
        assert!(error("smp(bucketize(64, page))").contains("bucketize(64, page) has none"));
        assert!(error("arena(on_oom(page))").contains("on_oom makes no sense in a replay"));
        assert!(error("compressed(page)").ends_with("\n  ^^^^^^^^^^"));
        assert!(error("fallbak(page, page)").contains("did you mean fallback?"));
        assert!(error("limits(1, page)").contains("did you mean limit?"));
    }

    #[test]
    fn a_first_side_that_does_not_know_its_blocks_is_refused_with_the_remedy() {
        let shown = error("fallback(  limit(1MiB, page), system)");
        assert!(shown.contains("page does not know its own blocks") && shown.contains("as in fallback("), "{shown}");
        assert!(shown.contains("\n             ^^^^^^^^^^^^^^^^^"), "{shown}");
        assert!(Stack::parse("fallback(limit(1MiB, arena(page)), system)").is_ok());
        assert!(Stack::parse("fallback(fallback(fixed(64KiB), smp(page)), system)").is_ok());
    }

    #[test]
    fn smp_is_told_of_a_combinator_that_has_no_piece_for_it() {
        assert!(error("smp(limit(1MiB, page))").contains("limit(1MiB, page) has none; make it"));
        assert!(error("smp(segregate(64, page, fixed(1MiB)))").contains("fixed(1MiB) has none"));
        for good in
            ["smp(limit(64MiB, page))", "smp(fallback(fixed(1MiB), page))", "smp(segregate(64, fixed(1MiB), page))"]
        {
            assert!(Stack::parse(good).is_ok(), "{good}");
        }
    }
}
