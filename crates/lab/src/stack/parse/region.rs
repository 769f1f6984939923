//! The part of the parser that reads regions of frames.
//!
//! ```text
//! region := "region(" SIZE "," frames ")"          SIZE is a multiple of 4 KiB
//! frames := "bitmap" | "buddy" | "classic" | "hybrid" | "zones(hybrid)" | "numa(hybrid" ["," spread] ")"
//! spread := "interleave" | "weighted(" NUMBER "," NUMBER ")"                   1 to 255, for the first node and the second
//! ```
//!
//! Cost: one pass over the text.
#![forbid(unsafe_code)]

use super::{ParseError, Parser};
use crate::stack::{
    Size, Stack,
    frames::{CLASSIC_FRAMES, FRAME, FRAME_WORDS, FrameWord, RegionWord, SPREADS, Spread},
    suggest,
};

const EXAMPLE: &str = "region(1GiB, hybrid)";

/// What stands between a region and its hybrids.
pub(super) const LAYERS: [(&str, RegionWord); 2] =
    [("numa", RegionWord::Numa(Spread::Local)), ("zones", RegionWord::Zones)];

/// The first that begins with that word.
pub(super) fn named(word: &str) -> Option<RegionWord> {
    let layer = || LAYERS.into_iter().find(|(name, _)| *name == word).map(|(_, frames)| frames);
    FrameWord::named(word).map(RegionWord::Frames).or_else(layer)
}

fn names() -> impl Iterator<Item = &'static str> {
    FRAME_WORDS.into_iter().map(|(name, ..)| name).chain(LAYERS.map(|(name, _)| name))
}

impl Parser<'_> {
    /// What stands behind the word `region`.
    pub(super) fn region(&mut self) -> Result<Stack, ParseError> {
        self.expect('(', &format!("a size, as in {EXAMPLE}"))?;
        self.skip_spaces();
        let start = self.at;
        let bytes = self.size(EXAMPLE)?;
        let width = self.at - start;
        if !bytes.is_multiple_of(FRAME) {
            let message = format!("a region consists of frames of {}, and {bytes} is no multiple", Size(FRAME));
            let near = bytes.checked_next_multiple_of(FRAME).unwrap_or(FRAME);
            return Err(self.error(start, width, message, format!("write {}", Size(near))));
        }
        self.expect(',', &format!("a comma and an allocator of frames, as in {EXAMPLE}"))?;
        let frames = self.frames()?;
        if frames == RegionWord::Frames(FrameWord::Classic) && bytes / FRAME > CLASSIC_FRAMES {
            let remedy = format!("write a smaller size, or {EXAMPLE}");
            return Err(self.error(start, width, "the links of classic do not reach so far", remedy));
        }
        self.expect(')', &format!("the end, as in {EXAMPLE}"))?;
        Ok(Stack::Region(bytes, frames))
    }

    fn frames(&mut self) -> Result<RegionWord, ParseError> {
        self.skip_spaces();
        let start = self.at;
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if let Some(frames) = FrameWord::named(&word) {
            return Ok(RegionWord::Frames(frames));
        }
        if let Some((_, frames)) = LAYERS.into_iter().find(|(name, _)| *name == word) {
            return self.over_hybrid(&word, frames);
        }
        let message = match word.as_str() {
            "" => "an allocator of frames is missing here".into(),
            word => format!("{word} is no allocator of frames"),
        };
        let remedy = match suggest::nearest(&word, names()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}, numa(hybrid), zones(hybrid)", FrameWord::list()),
        };
        Err(self.error(start, word.chars().count().max(1), message, remedy))
    }

    /// What stands behind `numa` or `zones`.
    fn over_hybrid(&mut self, word: &str, frames: RegionWord) -> Result<RegionWord, ParseError> {
        let example = format!("what it stands on, as in region(1GiB, {frames})");
        self.expect('(', &example)?;
        self.skip_spaces();
        let (at, below) = (self.at, self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '-'));
        if below != "hybrid" {
            let width = below.chars().count().max(1);
            return Err(self.error(at, width, format!("{word} stands on hybrid"), format!("write {frames}")));
        }
        self.skip_spaces();
        let comma = self.peek() == Some(',');
        let frames = match frames {
            RegionWord::Numa(_) if comma => RegionWord::Numa(self.spread()?),
            frames => frames,
        };
        self.expect(')', &format!("the end of {frames}"))?;
        Ok(frames)
    }

    /// The comma behind `numa(hybrid`, and where blocks come from.
    fn spread(&mut self) -> Result<Spread, ParseError> {
        self.expect(',', "a comma")?;
        self.skip_spaces();
        let start = self.at;
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '-');
        match word.as_str() {
            "interleave" => Ok(Spread::Interleave),
            "weighted" => {
                self.expect('(', "two weights, as in weighted(3, 1)")?;
                let first = self.weight()?;
                self.expect(',', "a comma and the second node's weight, as in weighted(3, 1)")?;
                let second = self.weight()?;
                self.expect(')', "the end, for there are two nodes, as in weighted(3, 1)")?;
                Ok(Spread::Weighted([first, second]))
            }
            _ => {
                let message = match word.as_str() {
                    "" => "where blocks come from is missing here".into(),
                    word => format!("{word} does not say where blocks come from"),
                };
                let near = suggest::nearest(&word, SPREADS.map(|spread| spread.split('(').next().unwrap_or(spread)));
                let remedy = match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => {
                        format!("write {}, or leave the comma out: then each thread has a node", SPREADS.join(" or "))
                    }
                };
                Err(self.error(start, word.chars().count().max(1), message, remedy))
            }
        }
    }

    fn weight(&mut self) -> Result<u8, ParseError> {
        self.skip_spaces();
        let start = self.at;
        let digits = self.take_while(|c| c.is_ascii_digit());
        let weight = digits.parse().ok().filter(|&weight: &u8| weight > 0);
        weight.ok_or_else(|| {
            let message = if digits.is_empty() { "no weight stands here" } else { "this is no weight" };
            let remedy = "write a number from 1 to 255, as in weighted(3, 1): so many blocks of that node in turn";
            self.error(start, digits.len().max(1), message, remedy)
        })
    }

    /// For a word that stands where a stack should, and names an allocator of frames.
    pub(super) fn needs_a_region(&self, start: usize, frames: RegionWord) -> ParseError {
        let message = format!("{frames} hands out frames, not bytes");
        let remedy = format!("put it into a region, as in region(1GiB, {frames})");
        self.error(start, self.at - start, message, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Stack::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn regions_are_read() {
        for (text, stack) in [
            ("region(1GiB, hybrid)", Stack::Region(1 << 30, RegionWord::Frames(FrameWord::Hybrid))),
            ("region( 4KiB ,bitmap )", Stack::Region(4 << 10, RegionWord::Frames(FrameWord::Bitmap))),
            ("region(1GiB, numa(hybrid))", Stack::Region(1 << 30, RegionWord::Numa(Spread::Local))),
            ("region(1GiB, numa(hybrid,interleave))", Stack::Region(1 << 30, RegionWord::Numa(Spread::Interleave))),
            (
                "region(1GiB, numa( hybrid , weighted ( 255 ,1 ) ) )",
                Stack::Region(1 << 30, RegionWord::Numa(Spread::Weighted([255, 1]))),
            ),
            ("region(1MiB,zones ( hybrid ) )", Stack::Region(1 << 20, RegionWord::Zones)),
            ("region(8192,classic)", Stack::Region(8 << 10, RegionWord::Frames(FrameWord::Classic))),
            (
                "debug(smp(region(64MiB, buddy)))",
                Stack::Debug(Box::new(Stack::Smp(Box::new(Stack::Region(
                    64 << 20,
                    RegionWord::Frames(FrameWord::Buddy),
                ))))),
            ),
        ] {
            assert_eq!(Stack::parse(text), Ok(stack), "{text}");
        }
    }

    #[test]
    fn regions_that_lack_something_show_how_they_are_written() {
        assert!(error("region").contains("expected a size, as in region(1GiB, hybrid)"));
        assert!(error("region(hybrid)").contains("expected a number of bytes"));
        assert!(error("region(1GiB)").contains("a comma and an allocator of frames, as in region(1GiB, hybrid)"));
        assert!(error("region(1GiB, )").contains("there are bitmap, buddy, classic and hybrid"));
        assert!(error("region(1GiB, hybrid, 4)").contains("the end, as in region("));
        assert!(error("region(1GiB, numa)").contains("what it stands on, as in region(1GiB, numa(hybrid))"));
        assert!(error("region(1GiB, zones(buddy))").contains("zones stands on hybrid; write zones(hybrid)"));
        assert!(error("region(1GiB, numa())").contains("numa stands on hybrid; write numa(hybrid)"));
        assert!(error("region(1GiB, numa(hybrid)").contains("the end, as in region("));
        assert!(error("region(1GiB, nuna(hybrid))").contains("did you mean numa?"));
        assert!(error("numa(hybrid)").contains("as in region(1GiB, numa(hybrid))"));
        assert!(error("smp(region(8MiB, numa(hybrid)))").contains("16MiB"));
        assert!(error("region(0, hybrid)").contains("at least 1"));
        assert!(error("regoin(1GiB, hybrid)").contains("did you mean region?"));
    }

    #[test]
    fn where_blocks_of_nodes_come_from_is_pointed_at_where_it_is_wrong() {
        let shown = error("region(1GiB, numa(hybrid, interlaeve))");
        assert!(shown.contains("interlaeve does not say where blocks come from; did you mean interleave?"), "{shown}");
        assert!(shown.ends_with("\n                            ^^^^^^^^^^"), "{shown}");
        let shown = error("region(1GiB, numa(hybrid, weighted(3, 256)))");
        assert!(shown.contains("this is no weight; write a number from 1 to 255"), "{shown}");
        assert!(shown.ends_with("\n                                        ^^^"), "{shown}");
        for (text, said) in [
            ("numa(hybrid,)", "missing here; write interleave or weighted(3, 1), or leave the comma out"),
            ("numa(hybrid, bind)", "bind does not say where blocks come from; write interleave"),
            ("numa(hybrid, weighted)", "two weights, as in weighted(3, 1)"),
            ("numa(hybrid, weighted())", "no weight stands here; write a number from 1 to 255"),
            ("numa(hybrid, weighted(0, 1))", "this is no weight"),
            ("numa(hybrid, weighted(3))", "the second node's weight, as in weighted(3, 1)"),
            ("numa(hybrid, weighted(3, 1, 2))", "the end, for there are two nodes"),
            ("numa(hybrid, interleave", "the end, as in region("),
            ("numa(hybrid, interleave 2)", "the end of numa(hybrid, interleave)"),
            ("zones(hybrid, interleave)", "the end of zones(hybrid)"),
        ] {
            let shown = error(&format!("region(1GiB, {text})"));
            assert!(shown.contains(said), "{shown}");
        }
    }

    #[test]
    fn a_wrong_size_and_a_wrong_word_are_pointed_at() {
        let shown = error("arena(region(5000, hybrid))");
        assert!(shown.contains("5000 is no multiple; write 8KiB"), "{shown}");
        assert!(shown.ends_with("\n               ^^^^"), "{shown}");
        let shown = error("region(1GiB, hybird)");
        assert!(shown.contains("hybird is no allocator of frames; did you mean hybrid?"), "{shown}");
        assert!(shown.ends_with("\n               ^^^^^^"), "{shown}");
        assert!(error("region(1GiB, page)").contains("page is no allocator of frames; there are bitmap"));
        assert!(error("region(1024GiB, classic)").contains("do not reach so far; write a smaller size"));
        assert!(error("region(18446744073709551615, hybrid)").contains("no multiple; write"));
    }

    #[test]
    fn an_allocator_of_frames_alone_is_told_to_take_a_region() {
        for word in FRAME_WORDS.map(|(name, ..)| name) {
            let shown = error(&format!("smp({word})"));
            assert!(shown.contains(&format!("as in region(1GiB, {word})")), "{shown}");
        }
    }

    #[test]
    fn smp_is_told_of_a_region_that_is_too_small_for_it() {
        assert!(error("smp(region(4MiB, hybrid))").contains("region(4MiB, hybrid) has none; make it 8MiB"));
        assert!(Stack::parse("smp(region(8MiB, hybrid))").is_ok());
        assert!(Stack::parse("fallback(region(8MiB, hybrid), page)").is_ok(), "a region knows its blocks");
    }
}
