//! The shape of a file: how it opens, how long it and its functions are, what it leaves undone.

use crate::source::Source;

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Rule: a file opens with `//!`.
pub fn files_open_with_their_purpose(source: &Source) -> Vec<String> {
    let says = "opens without `//!`: say what the file is for";
    if source.text.starts_with("//!") { Vec::new() } else { vec![format!("{}:1: {says}", source.path)] }
}

/// Rule: a file has at most 600 lines.
pub fn files_fit_in_a_room(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let says = format!("{}:1: {lines} lines, of at most {FILE_LINES}", source.path);
    if lines > FILE_LINES { vec![says] } else { Vec::new() }
}

/// Rule: a function has at most 70 lines, from its `fn` to its closing brace.
pub fn functions_fit_on_a_screen(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for index in source.all("fn") {
        let Some(open) = source.body(index + 1) else { continue };
        let lines = source.line(source.close(open)) - source.line(index) + 1;
        if source.word(index + 1) != "(" && lines > FUNCTION_LINES {
            let name = source.word(index + 1);
            found.push(source.finding(index, &format!("`{name}` has {lines} lines, of at most {FUNCTION_LINES}")));
        }
    }
    found
}

/// Rule: no `todo!`, `unimplemented!` or `dbg!`, and no assertion of a constant.
pub fn nothing_is_left_undone(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for index in 0..source.len() {
        let word = source.word(index);
        let called = source.word(index + 1) == "!";
        if called && matches!(word, "todo" | "unimplemented" | "dbg") {
            found.push(source.finding(index, &format!("`{word}!`")));
        }
        let constant = source.word(index + 3) == "true" && matches!(source.word(index + 4), ")" | ",");
        if called && word == "assert" && constant {
            found.push(source.finding(index, "an assertion that cannot fail"));
        }
    }
    found
}

/// Rule: `allow` and `expect` carry a `reason`, `ignore` says why.
pub fn exceptions_carry_a_reason(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for index in source.all("#") {
        let open = index + if source.word(index + 1) == "!" { 2 } else { 1 };
        if source.word(open) != "[" {
            continue;
        }
        let close = source.close(open);
        for at in open..close {
            let (word, next) = (source.word(at), source.word(at + 1));
            let bare = match word {
                "allow" | "expect" => next == "(" && !(at..source.close(at + 1)).any(|a| source.word(a) == "reason"),
                "ignore" => matches!(source.word(at - 1), "[" | ",") && next != "=",
                _ => false,
            };
            if bare {
                found.push(source.finding(at, &format!("`{word}` without a reason")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<String>;

    fn check(rule: Rule, bad: &[&str], good: &[&str]) {
        for text in bad {
            assert_eq!(rule(&Source::new("a.rs", text)).len(), 1, "{text}");
        }
        for text in good {
            assert_eq!(rule(&Source::new("a.rs", text)), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_file_that_opens_otherwise_is_named() {
        check(files_open_with_their_purpose, &["use a;\n//! late", "", "// why"], &["//! Why.\nuse a;"]);
    }

    #[test]
    fn line_601_is_one_too_many() {
        check(files_fit_in_a_room, &[&"\n".repeat(601)], &[&"\n".repeat(600)]);
    }

    #[test]
    fn a_function_of_71_lines_is_named() {
        let function = |lines: usize| format!("//!\nfn f(a: [u8; 2]) {{{}}}\nfn g();", "\n".repeat(lines - 1));
        check(functions_fit_on_a_screen, &[&function(71)], &[&function(70)]);
        let text = function(90);
        let says = functions_fit_on_a_screen(&Source::new("a.rs", &text));
        assert_eq!(says, ["a.rs:2: `f` has 90 lines, of at most 70"]);
    }

    #[test]
    fn unfinished_code_is_named() {
        let bad = ["to_do!()", "un_implemented!(\"x\")", "d_bg!(a)", "ass_ert!(true)", "ass_ert!(true, \"x\")"];
        let bad = bad.map(|text| text.replacen('_', "", 1));
        let good = ["let todo = 1;", "\"dbg!(a)\"", "assert!(a == true)", "// todo!()"];
        check(nothing_is_left_undone, &bad.each_ref().map(String::as_str), &good);
    }

    #[test]
    fn an_exception_without_a_reason_is_named() {
        let bad = [
            "#_[allow(dead_code)]",
            "#_![expect(a,\n  b)]",
            "#_[cfg_attr(test, allow(a))]",
            "#_[ignore]\nfn f() {}",
            "#_[cfg_attr(a, ignore)]",
        ];
        let bad = bad.map(|text| text.replacen('_', "", 1));
        let good = ["#[expect(a,\n    reason = \"why\")]", "#[ignore = \"slow\"]", "a.expect(\"b\"); #[serde(skip)]"];
        check(exceptions_carry_a_reason, &bad.each_ref().map(String::as_str), &good);
    }
}
