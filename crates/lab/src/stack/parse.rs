//! The parser of stack expressions, by recursive descent over characters.
//!
//! ```text
//! bytes := "page" | "system" | "mimalloc" | "fixed(" SIZE ")" | NAME
//!        | "smp(" bytes ")" | "debug(" bytes ")" | "arena(" bytes ")" | "sync_arena(" bytes ")" | "stack(" bytes ")"
//!        | "buffer_first(" SIZE "," bytes ")" | "pool(" SIZE "," bytes ")" | "region(" SIZE "," frames ")" | combined
//! SIZE  := NUMBER ["KiB" | "MiB" | "GiB"]            spaces are free
//! NAME  := what the program has registered; the words above come first
//! ```
//!
//! An error points at the character where the reading stopped and names what would have been right.
//! Cost: one pass over the text.
#![forbid(unsafe_code)]

mod combined;
mod region;

use std::fmt;

use super::{MAX_DEPTH, SMP_PIECE, Size, Stack, UNITS, all_words, combined::Combined, suggest};

/// Other people's allocators that no stack can name, since each needs a build of its own.
pub const PEERS: [&str; 4] = ["jemalloc", "rpmalloc", "snmalloc", "tcmalloc"];

/// Why a text is no stack, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    /// Index of a character (not of a byte), at most the number of characters.
    at: usize,
    /// How many characters are wrong, at least one.
    width: usize,
    message: String,
    remedy: String,
    show_words: bool,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A tab or a control character would shift the caret away from its character.
        let line: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(f, "{}; {}", self.message, self.remedy)?;
        writeln!(f, "  {line}")?;
        write!(f, "  {}{}", " ".repeat(self.at), "^".repeat(self.width))?;
        if self.show_words {
            write!(f, "\nthe words of a stack are:{}", super::words())?;
        }
        Ok(())
    }
}

pub fn parse(text: &str) -> Result<Stack, ParseError> {
    let mut parser = Parser { text, chars: text.chars().collect(), at: 0 };
    let stack = parser.stack(0)?;
    parser.skip_spaces();
    if parser.at < parser.chars.len() {
        return Err(parser.error(parser.at, 1, format!("the stack {stack} ends before this"), "remove the rest"));
    }
    Ok(stack)
}

/// A number of bytes, as it stands in a stack: `64GiB`.
///
/// # Errors
/// Where `text` is something else; the error shows the character.
pub fn parse_size(text: &str) -> Result<u64, ParseError> {
    let mut parser = Parser { text, chars: text.chars().collect(), at: 0 };
    let bytes = parser.size("64GiB")?;
    parser.skip_spaces();
    if parser.at < parser.chars.len() {
        return Err(parser.error(parser.at, 1, "the size ends before this", "remove the rest"));
    }
    Ok(bytes)
}

/// Whether the word belongs to what a region's frames are managed by.
pub fn names_frames(word: &str) -> bool {
    region::named(word).is_some()
}

struct Parser<'a> {
    text: &'a str,
    chars: Vec<char>,
    at: usize,
}

impl Parser<'_> {
    fn stack(&mut self, depth: usize) -> Result<Stack, ParseError> {
        self.skip_spaces();
        let start = self.at;
        if depth >= MAX_DEPTH {
            return Err(self.error(start, 1, format!("more than {MAX_DEPTH} layers"), "take some away"));
        }
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '-');
        match word.as_str() {
            "page" => self.leaf(Stack::Page),
            "system" => self.leaf(Stack::System),
            "mimalloc" if cfg!(feature = "mimalloc") => self.leaf(Stack::Mimalloc),
            "mimalloc" => Err(self.not_built_in(start, &word)),
            peer if PEERS.contains(&peer) => Err(self.peer(start, peer)),
            "smp" => self.smp(depth),
            "debug" => Ok(Stack::Debug(self.backing(&word, depth)?)),
            "arena" => Ok(Stack::Arena(self.backing(&word, depth)?)),
            "sync_arena" => Ok(Stack::SyncArena(self.backing(&word, depth)?)),
            "stack" => Ok(Stack::Lifo(self.backing(&word, depth)?)),
            "fixed" => {
                self.expect('(', "a size, as in fixed(64KiB)")?;
                let bytes = self.size("fixed(64KiB)")?;
                self.expect(')', "the end of fixed(…)")?;
                Ok(Stack::Fixed(bytes))
            }
            "buffer_first" => {
                let (size, backing) = self.size_and_backing("buffer_first(64KiB, page)", depth)?;
                Ok(Stack::BufferFirst(size, backing))
            }
            "region" => self.region(),
            "pool" => {
                let (size, backing) = self.size_and_backing("pool(64, page)", depth)?;
                Ok(Stack::Pool(size, backing))
            }
            _ => match super::plugins().into_iter().find(|name| *name == word) {
                Some(name) => self.leaf(Stack::Plugin(name)),
                None => self.combined(&word, depth).unwrap_or_else(|| match region::named(&word) {
                    Some(frames) => Err(self.needs_a_region(start, frames)),
                    None => Err(self.unknown(start, &word)),
                }),
            },
        }
    }

    /// A word that takes nothing in brackets.
    fn leaf(&mut self, stack: Stack) -> Result<Stack, ParseError> {
        self.skip_spaces();
        if self.peek() == Some('(') {
            let message = format!("{stack} stands on nothing");
            return Err(self.error(self.at, 1, message, format!("write just {stack}")));
        }
        Ok(stack)
    }

    /// What stands in the brackets after `word`.
    fn backing(&mut self, word: &str, depth: usize) -> Result<Box<Stack>, ParseError> {
        self.expect('(', &format!("a backing, as in {word}(page)"))?;
        let backing = self.stack(depth + 1)?;
        self.expect(')', &format!("the end of {word}(…)"))?;
        Ok(Box::new(backing))
    }

    fn smp(&mut self, depth: usize) -> Result<Stack, ParseError> {
        self.skip_spaces();
        let inside = self.at + 1;
        let backing = self.backing("smp", depth)?;
        let Some((small, bytes)) = backing.too_small_for_smp() else { return Ok(Stack::Smp(backing)) };
        let message = format!("smp takes pieces of {}, aligned to as much, and {small} has none", Size(SMP_PIECE));
        let remedy = match small {
            Stack::Pool(..) | Stack::Combined(Combined::Bucketize(..)) => {
                "put the pool on top, as in pool(64, smp(page))".into()
            }
            _ => format!("make it {} at least", Size(bytes)),
        };
        Err(self.error(inside, self.at - 1 - inside, message, remedy))
    }

    /// What stands in the brackets of `example`.
    fn size_and_backing(&mut self, example: &str, depth: usize) -> Result<(u64, Box<Stack>), ParseError> {
        self.expect('(', &format!("a size, as in {example}"))?;
        let size = self.size(example)?;
        self.expect(',', &format!("a comma and a backing, as in {example}"))?;
        let backing = self.stack(depth + 1)?;
        self.expect(')', &format!("the end, as in {example}"))?;
        Ok((size, Box::new(backing)))
    }

    fn size(&mut self, example: &str) -> Result<u64, ParseError> {
        self.skip_spaces();
        let start = self.at;
        let digits = self.take_while(|c| c.is_ascii_digit());
        if digits.is_empty() {
            let remedy = "expected a number of bytes, for instance 4096, 64KiB or 16MiB";
            return Err(self.error(start, 1, "no size stands here", remedy));
        }
        self.skip_spaces();
        let unit_at = self.at;
        let unit = self.take_while(char::is_alphanumeric);
        let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, bytes)) => *bytes,
            None if unit.is_empty() => 1,
            None => {
                let names = UNITS.iter().rev().map(|(name, _)| *name);
                let near = suggest::nearest(&unit, ["kib", "mib", "gib", "kb", "mb", "gb", "k", "m", "g"]);
                let like = near.and_then(|near| names.clone().find(|name| name.to_lowercase().starts_with(&near[..1])));
                let remedy =
                    like.map_or("the units are KiB, MiB and GiB".into(), |unit| format!("did you mean {unit}?"));
                return Err(self.error(unit_at, unit.chars().count(), format!("{unit} is no unit of a size"), remedy));
            }
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        let width = self.at - start;
        match bytes {
            Some(0) => {
                let remedy = format!("write a size of at least 1, for instance {example}");
                Err(self.error(start, width, "what has 0 bytes can serve nothing", remedy))
            }
            Some(bytes) => Ok(bytes),
            None => {
                let remedy = "no address space is larger than 2^64 bytes: write a smaller size";
                Err(self.error(start, width, "this size is too large", remedy))
            }
        }
    }

    fn expect(&mut self, wanted: char, what: &str) -> Result<(), ParseError> {
        self.skip_spaces();
        match self.peek() {
            Some(found) if found == wanted => {
                self.at += 1;
                Ok(())
            }
            Some(found) => {
                let message = format!("{found:?} stands where {wanted:?} was expected");
                Err(self.error(self.at, 1, message, format!("expected {what}")))
            }
            None => {
                let message = format!("the text ends where {wanted:?} was expected");
                Err(self.error(self.at, 1, message, format!("expected {what}")))
            }
        }
    }

    fn unknown(&self, start: usize, word: &str) -> ParseError {
        let names = all_words().map(|(word, _)| super::word_of(word)).chain(super::plugins());
        let (width, message) = match (word.is_empty(), self.chars.get(start)) {
            (false, _) => (self.at - start, format!("{word} is no word of a stack")),
            (true, Some(found)) => (1, format!("{found:?} begins no stack")),
            (true, None) => (1, "a stack is missing here".into()),
        };
        let remedy = match suggest::nearest(word, names) {
            Some(near) => format!("did you mean {near}?"),
            None => "expected one of the words below".into(),
        };
        ParseError { show_words: true, ..self.error(start, width, message, remedy) }
    }

    fn not_built_in(&self, start: usize, word: &str) -> ParseError {
        let message = format!("{word} is not built into this lab");
        self.error(
            start,
            word.len(),
            message,
            format!("run `cargo run --release -p terrace-lab --features {word} -- …` in place of `cargo lab …`"),
        )
    }

    fn peer(&self, start: usize, word: &str) -> ParseError {
        let message = format!("{word} is a peer that no stack can name");
        let remedy = "compare by `cargo lab bench smp`, or preload it, and the word system means it: \
                      `LD_PRELOAD=… cargo lab replay … --over system`";
        self.error(start, word.len(), message, remedy)
    }

    fn error(&self, at: usize, width: usize, message: impl Into<String>, remedy: impl Into<String>) -> ParseError {
        let (message, remedy) = (message.into(), remedy.into());
        ParseError { text: self.text.into(), at, width: width.max(1), message, remedy, show_words: false }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let taken: String = self.chars[self.at..].iter().copied().take_while(|c| belongs(*c)).collect();
        self.at += taken.chars().count();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Stack::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, bytes) in
            [("fixed(1)", 1), ("fixed( 3 KiB )", 3 << 10), ("fixed(2MiB)", 2 << 20), ("fixed(1GiB)", 1 << 30)]
        {
            assert_eq!(Stack::parse(text), Ok(Stack::Fixed(bytes)));
        }
    }

    #[test]
    fn the_caret_stands_under_the_wrong_word() {
        let shown = error("arena(  pgae)");
        assert!(shown.contains("\n  arena(  pgae)\n          ^^^^"), "{shown}");
        assert!(shown.contains("did you mean page?"), "{shown}");
        assert!(shown.contains("arena(STACK)"), "the list of words: {shown}");
    }

    #[test]
    fn a_size_alone_is_read_to_its_end() {
        assert_eq!(parse_size(" 64 GiB "), Ok(64 << 30));
        let shown = |text: &str| parse_size(text).unwrap_err().to_string();
        assert!(shown("64GB").contains("did you mean GiB?"));
        assert!(shown("64GiB, page").contains("remove the rest"));
        assert!(shown("").contains("no size stands here"));
    }

    #[test]
    fn an_empty_buffer_is_refused_with_the_remedy() {
        let shown = error("fixed(0)");
        assert!(shown.contains("at least 1") && shown.contains("\n        ^"), "{shown}");
    }

    #[test]
    fn missing_brackets_rests_and_units_are_named() {
        assert!(error("arena(page").contains("the text ends where ')' was expected"));
        assert!(error("arena page").contains("expected a backing, as in arena(page)"));
        assert!(error("page)").contains("remove the rest"));
        assert!(error("page(system)").contains("write just page"));
        assert!(error("fixed(64KB)").contains("did you mean KiB?"));
        assert!(error("fixed()").contains("expected a number of bytes"));
        assert!(error("fixed(99999999999999999999)").contains("too large"));
        assert!(error("fixed(18014398509481984KiB)").contains("too large"));
        assert!(error("").contains("a stack is missing here"));
    }

    #[test]
    fn layers_with_a_size_and_a_backing_are_read() {
        let page = || Box::new(Stack::Page);
        for (text, stack) in [
            ("smp(page)", Stack::Smp(page())),
            ("sync_arena(page)", Stack::SyncArena(page())),
            ("stack(page)", Stack::Lifo(page())),
            ("pool(256,page)", Stack::Pool(256, page())),
            ("buffer_first( 64KiB , arena(page) )", Stack::BufferFirst(64 << 10, Box::new(Stack::Arena(page())))),
            ("smp(fixed(8MiB))", Stack::Smp(Box::new(Stack::Fixed(8 << 20)))),
        ] {
            assert_eq!(Stack::parse(text), Ok(stack), "{text}");
        }
    }

    #[test]
    fn layers_that_lack_something_show_how_they_are_written() {
        assert!(error("pool(page)").contains("expected a number of bytes"));
        assert!(error("pool(64)").contains("expected a comma and a backing, as in pool(64, page)"));
        assert!(error("pool(0, page)").contains("at least 1, for instance pool(64, page)"));
        assert!(error("buffer_first(64KiB, page").contains("the end, as in buffer_first(64KiB, page)"));
        assert!(error("smp").contains("expected a backing, as in smp(page)"));
        assert!(error("snp(page)").contains("did you mean smp?"));
        assert!(error("syncarena(page)").contains("did you mean sync_arena?"));
        assert!(error("bufer_frist(64KiB, page)").contains("did you mean buffer_first?"));
    }

    #[test]
    fn what_has_no_piece_for_smp_is_refused_with_the_remedy() {
        let shown = error("smp(  arena(fixed(1MiB)))");
        assert!(shown.contains("pieces of 4MiB") && shown.contains("fixed(1MiB) has none; make it 8MiB"), "{shown}");
        assert!(shown.contains("\n      ^^^^^^^^^^^^^^^^^^^^"), "{shown}");
        assert!(error("smp(pool(64MiB, page))").contains("pool(64, smp(page))"));
        assert!(error("smp(buffer_first(1KiB, fixed(1MiB)))").contains("fixed(1MiB) has none"));
        assert!(Stack::parse("smp(buffer_first(1KiB, page))").is_ok());
    }

    #[test]
    fn a_peer_that_no_stack_can_name_says_how_to_compare_with_it() {
        for peer in PEERS {
            let shown = error(&format!("arena({peer})"));
            assert!(shown.contains("cargo lab bench smp") && shown.contains("LD_PRELOAD"), "{shown}");
            assert!(!shown.contains("did you mean"), "{shown}");
        }
    }

    #[test]
    fn words_of_other_allocators_are_unknown() {
        assert!(error("obstack").contains("obstack is no word of a stack; expected one of the words below"));
    }

    #[test]
    fn a_tower_of_brackets_is_refused_not_climbed() {
        assert!(error(&"arena(".repeat(100_000)).contains("more than 32 layers"));
        assert!(Stack::parse(&format!("{}page{}", "arena(".repeat(31), ")".repeat(31))).is_ok());
    }

    #[cfg(not(feature = "mimalloc"))]
    #[test]
    fn a_peer_that_is_not_built_in_says_how_to_get_it() {
        assert!(error("mimalloc").contains("mimalloc"));
    }
}
