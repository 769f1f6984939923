//! The page of promises: each row says what shows it, and the tests that it names exist.

use std::collections::BTreeSet;

use crate::tree::Tree;

const PAGE: &str = "docs/promises.md";

/// Rule: a row of `docs/promises.md` names a test, a command or a page, or says that it is not kept yet; its tests are there.
pub fn every_promise_is_shown(tree: &Tree) -> Vec<String> {
    let tests = tree.sources.iter().flat_map(|source| functions(&source.code)).collect();
    unshown(tree.text(PAGE).unwrap_or_default(), &tests)
}

/// The names behind `fn`.
fn functions(code: &str) -> impl Iterator<Item = &str> {
    code.match_indices("fn ").map(|(at, found)| {
        let name = &code[at + found.len()..];
        &name[..name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(name.len())]
    })
}

fn unshown(page: &str, functions: &BTreeSet<&str>) -> Vec<String> {
    let mut found = Vec::new();
    for (line, row) in page.lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim().trim_matches('|').split('|').map(str::trim).collect();
        let &[promise, kept, shown] = &cells[..] else {
            found.push(format!("{PAGE}:{}: a row has three cells", line + 1));
            continue;
        };
        if shown.is_empty() && !kept.contains("**not yet") {
            found.push(format!("{PAGE}:{}: what shows `{promise}`?", line + 1));
        }
        // Between backticks; a command or a type has other characters than a test's name.
        let names = shown.split('`').skip(1).step_by(2);
        let names = names.filter(|name| name.contains('_') && name.chars().all(|c| c == '_' || c.is_ascii_lowercase()));
        let missing = names.filter(|name| !functions.contains(name));
        found.extend(missing.map(|name| format!("{PAGE}:{}: there is no `{name}`", line + 1)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_without_a_test_that_exists_is_named() {
        let tests = functions("fn it_is_kept() {} fn b<T>()").collect();
        let page = "| promise | kept by | shown by |\n|---|---|---|\n| a | x | `it_is_kept`, `cargo lab demo` |\n";
        assert_eq!(unshown(page, &tests), Vec::<String>::new());
        assert_eq!(unshown("| a | x | `it_is_not` |", &tests), ["docs/promises.md:1: there is no `it_is_not`"]);
        assert_eq!(unshown("| a | x |  |", &tests), ["docs/promises.md:1: what shows `a`?"]);
        assert!(unshown("| a | **not yet:** later |  |", &tests).is_empty());
        assert_eq!(unshown("| a | x |", &tests).len(), 1);
    }
}
