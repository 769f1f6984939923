//! Every `unsafe` says why it is sound, in code of every target, `cfg` and macro: where clippy, which
//! denies the same, does not look.

use crate::source::Source;

/// How far above the `unsafe` its statement may begin.
const STATEMENT_LINES: usize = 12;

/// Rule: `unsafe` blocks and impls have a `SAFETY:` comment above their statement, `unsafe fn` and
/// `unsafe trait` a `# Safety` section. A method of a trait's impl has its trait's section.
pub fn every_unsafe_is_explained(source: &Source) -> Vec<String> {
    let impls = trait_impls(source);
    let mut found = Vec::new();
    for index in source.all("unsafe") {
        let inherits = || impls.iter().any(|&(open, close)| (open..close).contains(&index));
        let extern_fn = source.word(index + 1) == "extern" && source.word(index + 2) == "fn";
        let next = if extern_fn { "fn" } else { source.word(index + 1) };
        let named = source.word(index + if extern_fn { 3 } else { 2 });
        let line = source.line(index);
        let missing = match next {
            "{" | "impl" => !has_safety_comment(source, line),
            // Without a name it is the type of a pointer.
            "fn" if named == "(" => false,
            "fn" => !inherits() && !has_safety_section(source, line),
            "trait" => !has_safety_section(source, line),
            "extern" => !has_safety_comment(source, line) && !has_safety_section(source, line),
            _ => false,
        };
        if missing {
            let wanted = if matches!(next, "fn" | "trait") { "a `# Safety` section" } else { "a `SAFETY:` comment" };
            found.push(source.finding(index, &format!("`unsafe {next}` lacks {wanted}")));
        }
    }
    found
}

/// On the line itself, or above it up to where its statement begins and the comment over that.
fn has_safety_comment(source: &Source, line: usize) -> bool {
    for above in 0..STATEMENT_LINES {
        let Some(here) = line.checked_sub(above).filter(|&here| here > 0) else { return false };
        let (code, comment) = source.code_and_comment(here);
        let code = code.trim();
        let ended = above > 0 && code.ends_with([';', '{', '}']);
        let blank = code.is_empty() && comment.trim().is_empty();
        if ended || blank {
            return false;
        }
        if comment.contains("SAFETY:") {
            return true;
        }
        if code.is_empty() {
            return comment_above_contains(source, here, "SAFETY:");
        }
    }
    false
}

fn has_safety_section(source: &Source, line: usize) -> bool {
    comment_above_contains(source, line.saturating_sub(1), "# Safety")
}

/// Whether the comments and attributes that end at `line` contain `words`.
fn comment_above_contains(source: &Source, line: usize, words: &str) -> bool {
    for here in (1..=line).rev() {
        let (code, comment) = source.code_and_comment(here);
        if comment.contains(words) {
            return true;
        }
        let (code, comment) = (code.trim(), comment.trim());
        let attribute = code.starts_with('#') || code.starts_with('$') || code.ends_with([']', ',']);
        if (code.is_empty() && comment.is_empty()) || !(code.is_empty() || attribute) {
            return false;
        }
    }
    false
}

/// The bodies of `impl Trait for Type`.
fn trait_impls(source: &Source) -> Vec<(usize, usize)> {
    let mut bodies = Vec::new();
    for index in source.all("impl") {
        let Some(open) = source.body(index) else { continue };
        // `for<'a>` is a bound, not the word between trait and type.
        let of_trait = (index..open).any(|at| source.word(at) == "for" && source.word(at + 1) != "<");
        if of_trait {
            bodies.push((open, source.close(open)));
        }
    }
    bodies
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `danger` stands for the word, so that this file holds no bare block itself.
    fn findings(text: &str) -> Vec<String> {
        every_unsafe_is_explained(&Source::new("a.rs", &text.replace("danger", "unsafe")))
    }

    #[test]
    fn a_bare_block_impl_fn_and_trait_are_named() {
        for bad in [
            "fn f() {\n    danger { g() }\n}",
            "// SAFETY: too far.\n\ndanger impl Send for A {}",
            "// SAFETY: the first.\ndanger { a() };\ndanger { b() };",
            "macro_rules! m { () => { danger { a() } } }",
            "/// Does.\npub danger fn f() {}",
            "danger fn f() {}",
            "danger extern \"C\" fn f() {}",
            "/// Is.\npub danger trait T {}",
            "impl A {\n    /// Does.\n    danger fn f() {}\n}",
            "danger extern \"C\" { fn f(); }",
        ] {
            assert_eq!(findings(bad).len(), 1, "{bad}");
        }
        assert_eq!(findings("\n\ndanger { a() }"), ["a.rs:3: `unsafe {` lacks a `SAFETY:` comment"]);
    }

    #[test]
    fn explained_ones_pass() {
        for good in [
            "// SAFETY: I1.\ndanger { a() };",
            "// SAFETY: I1, and\n// I2 too.\nlet a =\n    danger { a() };",
            "#[inline]\n// SAFETY: I1.\n#[cold]\ndanger impl Send for A {}",
            "let a = f(\n    1,\n    // SAFETY: I1.\n    danger { b() },\n);",
            "danger { a() } // SAFETY: I1.",
            "/// Does.\n///\n/// # Safety\n/// Live.\n#[inline]\npub danger fn f() {}",
            "impl T for A {\n    danger fn f() {}\n}",
            "let f: danger fn(u8) = g; let g: danger extern \"C\" fn(u8) = h;",
            "#[danger(no_mangle)] fn f() {} // danger { }",
        ] {
            assert_eq!(findings(good), Vec::<String>::new(), "{good}");
        }
    }

    #[test]
    fn a_bound_over_lifetimes_makes_no_trait_impl() {
        assert_eq!(findings("impl<F: for<'a> Fn(&'a u8)> A<F> {\n    danger fn f() {}\n}").len(), 1);
    }
}
