//! The book: its pages are reached, its links lead somewhere, its code is tested.

use std::collections::BTreeSet;

use crate::tree::Tree;

/// A link of a page: the line it stands on, the page's path it leads to, the heading in it.
struct Link {
    line: usize,
    path: String,
    heading: Option<String>,
}

/// Rule: each page of `docs/` is reached by links from `README.md` or `docs/README.md`.
pub fn every_page_is_reached(tree: &Tree) -> Vec<String> {
    let pages: Vec<(&str, &str)> = tree.pages().collect();
    unreached(&pages)
}

fn unreached(pages: &[(&str, &str)]) -> Vec<String> {
    let mut reached: BTreeSet<String> = ["README.md", "docs/README.md"].map(str::to_owned).into();
    let mut todo: Vec<String> = reached.iter().cloned().collect();
    while let Some(page) = todo.pop() {
        let Some((_, text)) = pages.iter().find(|(path, _)| *path == page) else { continue };
        for link in links(&page, text) {
            if reached.insert(link.path.clone()) {
                todo.push(link.path);
            }
        }
    }
    let book = pages.iter().map(|(path, _)| *path).filter(|path| path.starts_with("docs/"));
    book.filter(|path| !reached.contains(*path))
        .map(|path| format!("{path}: no link leads here from README.md or docs/README.md"))
        .collect()
}

/// Rule: relative links lead to a file of the project, and to a heading that is there.
pub fn every_link_leads_somewhere(tree: &Tree) -> Vec<String> {
    let files: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    let text = |path: &str| tree.text(path);
    tree.pages().flat_map(|(path, page)| dead_links(path, page, &files, text)).collect()
}

fn dead_links<'a>(path: &str, page: &str, files: &[&str], text: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let mut found = Vec::new();
    for Link { line, path: to, heading } in links(path, page) {
        let folder = format!("{to}/");
        if !to.is_empty() && !files.iter().any(|file| *file == to || file.starts_with(&folder)) {
            found.push(format!("{path}:{line}: `{to}` is not there"));
        } else if let (Some(heading), Some(text)) = (heading, text(&to))
            && !headings(text).contains(&heading)
        {
            found.push(format!("{path}:{line}: `{to}` has no heading `{heading}`"));
        }
    }
    found
}

/// The relative links of a page, code left out.
fn links(page: &str, text: &str) -> Vec<Link> {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for (line, prose) in prose(text) {
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split([')', ' ']).next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let path = if file.is_empty() { Some(page.to_owned()) } else { joined(folder, file) };
            let path = path.unwrap_or_else(|| target.to_owned());
            found.push(Link { line, path, heading: heading.map(str::to_owned) });
        }
    }
    found
}

/// The lines outside fenced code, their inline code blanked.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        let outside = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        (!fenced).then_some((index + 1, outside))
    })
}

/// The anchors of a page's headings, as the usual renderers make them.
fn headings(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if let (false, true) = (fenced, line.starts_with('#')) {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            found.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

/// `path` seen from `folder`, or `None` where it climbs out of the project.
pub fn joined(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Rule: every page with Rust code is among those whose code is tested.
pub fn every_page_is_tested(tree: &Tree) -> Vec<String> {
    tree.pages().filter_map(|(path, text)| untested(path, text, terrace_tests::PAGES)).collect()
}

fn untested(path: &str, text: &str, tested: &[&str]) -> Option<String> {
    let has_code = fences(text).any(|(_, language)| language.starts_with("rust"));
    (has_code && !tested.contains(&path)).then(|| format!("{path}: its Rust code is not tested: see tests/build.rs"))
}

/// Rule: a fence names its language (one without is Rust to rustdoc), and Rust code is not left untested.
pub fn every_fence_names_its_language(tree: &Tree) -> Vec<String> {
    tree.pages().flat_map(|(path, text)| bad_fences(path, text)).collect()
}

fn bad_fences(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (line, language) in fences(text) {
        if language.is_empty() {
            found.push(format!("{path}:{line}: name the code's language: `text`, `console`, `rust`"));
        } else if language.split(',').any(|word| word.trim() == "ignore") {
            found.push(format!("{path}:{line}: untested Rust code: say `no_run`, `compile_fail` or `text`"));
        }
    }
    found
}

/// The lines that open a fence, with what follows the backticks.
fn fences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let language = line.trim_start().strip_prefix("```")?;
        fenced = !fenced;
        fenced.then_some((index + 1, language.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_no_link_reaches_is_named() {
        let mut pages = vec![
            ("README.md", "[the book](docs/README.md)"),
            ("docs/README.md", "[a](a.md#top)"),
            ("docs/a.md", "`[c](c.md)` [b](../docs/b/b.md)"),
            ("docs/b/b.md", "```text\n[c](../c.md)\n```"),
        ];
        assert!(unreached(&pages).is_empty());
        pages.push(("docs/c.md", ""));
        assert_eq!(unreached(&pages), ["docs/c.md: no link leads here from README.md or docs/README.md"]);
    }

    #[test]
    fn a_link_to_nowhere_is_named_with_its_line() {
        let files = ["README.md", "docs/a.md", "crates/core/src/lib.rs"];
        let text = |path: &str| (path == "docs/a.md").then_some("# The one, or two\n```text\n# No\n```");
        let dead = |page: &str| dead_links("docs/x.md", page, &files, text);
        let good = "[a](a.md) [b](../README.md) [c](../crates/core) [d](a.md#the-one-or-two) [e](https://x.org/y.md)";
        assert_eq!(dead(good), Vec::<String>::new());
        assert_eq!(dead("a\n[a](b.md)"), ["docs/x.md:2: `docs/b.md` is not there"]);
        assert_eq!(dead("[a](a.md#no)"), ["docs/x.md:1: `docs/a.md` has no heading `no`"]);
        assert_eq!(dead("[a](../../out.md)").len(), 1);
    }

    #[test]
    fn untested_code_and_nameless_fences_are_named() {
        let rust = "```rust\nf();\n```\n";
        assert!(untested("docs/a.md", rust, &["docs/a.md"]).is_none());
        assert!(untested("docs/a.md", "```text\n```", &[]).is_none());
        assert!(untested("docs/a.md", rust, &["docs/b.md"]).is_some());
        assert!(bad_fences("a.md", rust).is_empty());
        assert_eq!(bad_fences("a.md", "x\n```\nf();\n```\n").len(), 1);
        assert_eq!(bad_fences("a.md", "```rust, ignore\nf();\n```\n").len(), 1);
    }
}
