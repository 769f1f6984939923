//! The papers at the root: what they must say, and that they agree with what is there.

use crate::tree::Tree;

/// Rule: README.md shows the two commands and Rust code, and `.ci/run` begins with its test command.
pub fn the_front_page_shows_what_is_run(tree: &Tree) -> Vec<String> {
    let text = |path| tree.text(path).unwrap_or_default();
    front_page_lacks(text("README.md"), text(".ci/run"))
}

fn front_page_lacks(page: &str, run: &str) -> Vec<String> {
    let shows = |text: &str| page.lines().any(|line| line.trim_start_matches("$ ").starts_with(text));
    let wanted = ["cargo test", "cargo lab demo", "```rust"];
    let mut found: Vec<String> =
        wanted.iter().filter(|text| !shows(text)).map(|text| format!("README.md: `{text}` is not shown")).collect();
    if !run.contains("all_stages=\"test ") || !run.contains("stage_test() {\n  cargo test\n}") {
        found.push(".ci/run: the first stage is not README.md's `cargo test`".into());
    }
    found
}

/// Rule: the change log has a place for what is not released yet.
pub fn the_change_log_is_open(tree: &Tree) -> Vec<String> {
    let open = tree.text("CHANGELOG.md").is_some_and(is_open);
    if open { Vec::new() } else { vec!["CHANGELOG.md: `## [Unreleased]` is missing".into()] }
}

fn is_open(change_log: &str) -> bool {
    change_log.lines().any(|line| line.starts_with("## [Unreleased]"))
}

/// Rule: the map in ARCHITECTURE.md has a row for each room.
pub fn the_map_shows_every_room(tree: &Tree) -> Vec<String> {
    let map = tree.text("ARCHITECTURE.md").unwrap_or_default();
    tree.members.iter().filter_map(|member| off_the_map(map, &member.folder)).collect()
}

fn off_the_map(map: &str, folder: &str) -> Option<String> {
    let shown = map.contains(&format!("`{folder}`"));
    (!shown).then(|| format!("ARCHITECTURE.md: `{folder}` is not on the map"))
}

/// Rule: the checks that CONTRIBUTING.md shows are those that `.ci/run` runs, and none is left out.
pub fn the_checks_shown_are_the_checks_run(tree: &Tree) -> Vec<String> {
    let text = |path| tree.text(path).unwrap_or_default();
    different_checks(text("CONTRIBUTING.md"), text(".ci/run"))
}

/// A command is shown as it stands in the script, or by its stage's name: `.ci/run loom`.
fn different_checks(shown: &str, run: &str) -> Vec<String> {
    let stages: Vec<&str> = run.lines().filter_map(|line| line.strip_prefix("stage_")?.strip_suffix("() {")).collect();
    let section = shown.split("\n## ").find(|section| section.starts_with("The checks")).unwrap_or_default();
    let mut found = Vec::new();
    for command in section.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let runs = |line: &str| line.trim() == command;
        let stage = command.strip_prefix(".ci/run ");
        if !stage.map_or_else(|| run.lines().any(runs), |stage| stages.contains(&stage)) {
            found.push(format!("CONTRIBUTING.md: `.ci/run` does not run `{command}`"));
        }
    }
    let missing = stages.iter().filter(|stage| !section.contains(&format!("`{stage}`")));
    found.extend(missing.map(|stage| format!("CONTRIBUTING.md: the stage `{stage}` is not in the table")));
    if stages.is_empty() || section.is_empty() {
        found.push(".ci/run has no stages, or CONTRIBUTING.md no section \"The checks\"".into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_page_without_a_command_or_code_is_named() {
        let run = "all_stages=\"test format\"\nstage_test() {\n  cargo test\n}\n";
        let page = "```console\n$ cargo lab demo\n$ cargo test\n```\n```rust\nf();\n```\n";
        assert!(front_page_lacks(page, run).is_empty());
        for part in ["cargo lab demo", "cargo test", "```rust"] {
            assert_eq!(front_page_lacks(&page.replace(part, "x"), run).len(), 1, "{part}");
        }
        assert_eq!(front_page_lacks(page, &run.replace("\"test ", "\"")).len(), 1);
        assert_eq!(front_page_lacks(page, &run.replace("cargo test", "cargo test --lib")).len(), 1);
    }

    #[test]
    fn a_change_log_without_its_open_section_is_named() {
        assert!(is_open("# Changelog\n\n## [Unreleased]\n"));
        assert!(!is_open("# Changelog\n\n## [0.1.0]\n"));
    }

    #[test]
    fn a_room_that_is_not_on_the_map_is_named() {
        assert!(off_the_map("| `crates/heap` |", "crates/heap").is_none());
        assert!(off_the_map("| `crates/heap` |", "crates/sys").is_some());
    }

    #[test]
    fn a_check_that_is_shown_but_not_run_is_named() {
        let run = "stage_test() {\n  cargo test\n}\nstage_loom() {\n}\n";
        let shown = |text: &str| format!("# C\n\n## The checks\n{text}\n## Next\n$ ls\n");
        assert!(different_checks(&shown("$ cargo test\n$ .ci/run loom\n`test` `loom`"), run).is_empty());
        assert_eq!(different_checks(&shown("$ cargo test --all\n`test` `loom`"), run).len(), 1);
        assert_eq!(different_checks(&shown("$ .ci/run asan\n`test` `loom`"), run).len(), 1);
        assert_eq!(different_checks(&shown("`test`"), run).len(), 1);
        assert_eq!(different_checks("", "").len(), 1);
    }
}
