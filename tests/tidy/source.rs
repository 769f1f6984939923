//! A Rust file as the rules see it: code and comments apart, cut into tokens.
//!
//! ```text
//! text      let s = "unsafe"; // why
//! code      let s = "      ";
//! comments                    // why
//! ```
//!
//! - **I1** `code` and `comments` have the length of `text`, and line breaks where it has them:
//!   an offset or a line number means the same place in all three.
//! - **I2** What stands in a string, a character or a comment is blank in `code`.
//!
//! Read lexically rather than parsed, so that the bodies of macros, code that `cfg` removes and
//! files that no target names are read too. Cost: one pass over the file.

/// A Rust file, its code and its comments.
pub struct Source {
    pub path: String,
    pub text: String,
    pub code: String,
    pub comments: String,
    tokens: Vec<(usize, usize)>,
    line_starts: Vec<usize>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, comments) = apart(text);
        let tokens = tokens(&code);
        let line_starts = [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.into(), text: text.into(), code, comments, tokens, line_starts }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token of that index; empty past the end.
    pub fn word(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |&(start, end)| &self.code[start..end])
    }

    /// The indices of the tokens that are `word`.
    pub fn all(&self, word: &str) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(move |&index| self.word(index) == word)
    }

    /// Where a token starts, in bytes.
    pub fn offset(&self, index: usize) -> usize {
        self.tokens[index].0
    }

    /// The line a token stands on, from 1.
    pub fn line(&self, index: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= self.offset(index))
    }

    /// A line's code and its comment; both empty past the ends.
    pub fn code_and_comment(&self, line: usize) -> (&str, &str) {
        let Some(&start) = line.checked_sub(1).and_then(|at| self.line_starts.get(at)) else { return ("", "") };
        let end = self.line_starts.get(line).map_or(self.text.len(), |next| next - 1);
        (&self.code[start..end], &self.comments[start..end])
    }

    /// The token that closes the bracket at `open`, or the last one where none does.
    pub fn close(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for index in open..self.len() {
            match self.word(index) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return index;
            }
        }
        self.len() - 1
    }

    /// From `start`, the first `{` or `;` that stands in no bracket: the end of a signature.
    pub fn body(&self, start: usize) -> Option<usize> {
        let mut index = start;
        while index < self.len() {
            match self.word(index) {
                "(" | "[" => index = self.close(index),
                "{" => return Some(index),
                ";" | "}" | ")" | "]" => return None,
                _ => {}
            }
            index += 1;
        }
        None
    }

    /// `path:line: says`, for the token at `index`.
    pub fn finding(&self, index: usize, says: &str) -> String {
        format!("{}:{}: {says}", self.path, self.line(index))
    }
}

fn tokens(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut word_start = None;
    for (at, c) in code.char_indices() {
        let of_word = c.is_alphanumeric() || c == '_';
        if let (false, Some(start)) = (of_word, word_start) {
            found.push((start, at));
            word_start = None;
        }
        if of_word {
            word_start.get_or_insert(at);
        } else if !c.is_whitespace() {
            found.push((at, at + c.len_utf8()));
        }
    }
    found.extend(word_start.map(|start| (start, code.len())));
    found
}

/// `code` and `comments` of I1 and I2.
fn apart(text: &str) -> (String, String) {
    let blank = |piece: &str| -> String {
        piece.chars().map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) }).collect()
    };
    let (mut code, mut comments) = (String::new(), String::new());
    let mut rest = text;
    while !rest.is_empty() {
        let (kind, len) = next_piece(rest, code.chars().next_back());
        let (piece, after) = rest.split_at(len);
        code.push_str(&if kind == Piece::Code { piece.into() } else { blank(piece) });
        comments.push_str(&if kind == Piece::Comment { piece.into() } else { blank(piece) });
        rest = after;
    }
    (code, comments)
}

#[derive(PartialEq)]
enum Piece {
    Code,
    Comment,
    Literal,
}

/// The kind and the length of what `rest` opens with. `before` tells an `r` or a `b` that opens a
/// literal from one that ends a word.
fn next_piece(rest: &str, before: Option<char>) -> (Piece, usize) {
    let mut chars = rest.chars();
    let first = chars.next().map_or(0, char::len_utf8);
    if rest.starts_with("//") {
        return (Piece::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Piece::Comment, block_comment(rest));
    }
    if let Some(inside) = rest.strip_prefix('"') {
        return (Piece::Literal, 1 + quoted(inside, '"'));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        // A character has its quote after one character or an escape; a lifetime has none.
        let second = chars.next();
        let third = chars.next();
        let literal = second == Some('\\') || third == Some('\'');
        return if literal { (Piece::Literal, 1 + quoted(inside, '\'')) } else { (Piece::Code, 1) };
    }
    if !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
        && let Some(len) = raw_string(rest)
    {
        return (Piece::Literal, len);
    }
    (Piece::Code, first)
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length up to and with the closing `quote`, escapes jumped over.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

/// The length of `r"…"`, `br#"…"#` and the like, where `rest` opens with one.
fn raw_string(rest: &str) -> Option<usize> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let closed = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(rest.len() - inside.len() + closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let source = Source::new("a.rs", text);
        (0..source.len()).map(|index| source.word(index).to_owned()).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        for text in [
            "a // b",
            "a /* b /* c */ d */",
            "a \"b \\\" c\"",
            "a r#\"b \" c\"#",
            "a '\\'' 'b' '\"'",
            "a br\"b\"",
            "a \"\\\\\" // \"",
        ] {
            let code = Source::new("a.rs", text).code;
            assert_eq!(code.trim_end(), "a", "{text}");
        }
    }

    #[test]
    fn lifetimes_and_names_that_end_in_r_are_code() {
        assert_eq!(words("&'a str"), ["&", "'", "a", "str"]);
        assert_eq!(words("for\"b\";"), ["for", ";"]);
    }

    #[test]
    fn every_place_keeps_its_offset_and_its_line() {
        let text = "a\n/* ä\n */ b // ö\n\"ü\n\" c";
        let source = Source::new("a.rs", text);
        assert_eq!((source.code.len(), source.comments.len()), (text.len(), text.len()));
        for word in ["a", "b", "c"] {
            let index = source.all(word).next().unwrap();
            assert!(text[source.offset(index)..].starts_with(word));
        }
        assert_eq!(source.line(source.all("c").next().unwrap()), 5);
        assert_eq!(source.code_and_comment(3).1.trim(), "*/   // ö");
    }

    #[test]
    fn brackets_find_their_partner_and_signatures_their_body() {
        let source = Source::new("a.rs", "fn f(a: [u8; 4]) -> u8 { { } } fn g();");
        let body = source.body(0).unwrap();
        assert_eq!(source.word(body), "{");
        assert_eq!(source.word(source.close(body) + 1), "fn");
        assert_eq!(source.body(source.close(body) + 1), None);
    }
}
