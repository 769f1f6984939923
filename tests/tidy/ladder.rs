//! Imports point down the ladder, and packages are named after their folder.
//!
//! ```text
//! 5  malloc   lab
//! 4  terrace
//! 3  memops
//! 2  sys      heap      frame        no two of a floor know one another
//! 1  sync
//! 0  core
//!    beside: trace (on core and heap), testkit (on core)
//! ```
//!
//! `[dependencies]` and `[build-dependencies]` look down only; the lab, at the top, may also use what
//! stands beside. `[dev-dependencies]` may look sideways too, and at what stands beside, never up:
//! so no cycle of packages arises that a registry could not publish in order.

use crate::{
    source::Source,
    tree::{Member, Tree},
};

/// A crate's floor, and the crates beside the ladder.
const FLOORS: [&[&str]; 6] =
    [&["core"], &["sync"], &["sys", "heap", "frame"], &["memops"], &["terrace"], &["malloc", "lab"]];
const BESIDE: [(&str, &[&str]); 2] = [("trace", &["core", "heap"]), ("testkit", &["core"])];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Whether the code of `from` may use `to`.
fn may_use(from: &str, to: &str) -> bool {
    if let Some((_, below)) = BESIDE.iter().find(|(room, _)| *room == from) {
        return below.contains(&to);
    }
    match (floor(from), floor(to)) {
        (Some(from), Some(to)) => to < from,
        (Some(_), None) => from == "lab",
        (None, _) => false,
    }
}

/// Whether the tests of `from` may use `to`: its own floor, below, and what stands beside.
fn tests_may_use(from: &str, to: &str) -> bool {
    match (floor(from), floor(to)) {
        (_, None) | (None, Some(0..=2)) => true,
        (None, Some(_)) => false,
        (Some(from), Some(to)) => to <= from,
    }
}

/// The room of a member under `crates/`.
fn room(folder: &str) -> Option<&str> {
    folder.strip_prefix("crates/")
}

fn known(room: &str) -> bool {
    floor(room).is_some() || BESIDE.iter().any(|(beside, _)| *beside == room)
}

/// The room that a package's or a crate's name belongs to.
fn room_of_name(name: &str) -> Option<&str> {
    if name == "terrace" {
        return Some(name);
    }
    name.strip_prefix("terrace-").or(name.strip_prefix("terrace_")).filter(|room| known(room))
}

/// Rule: manifests look down.
pub fn manifests_look_down(tree: &Tree) -> Vec<String> {
    tree.members.iter().flat_map(manifest_looks_down).collect()
}

fn manifest_looks_down(member: &Member) -> Vec<String> {
    let Some(from) = room(&member.folder) else { return Vec::new() };
    let manifest = member.manifest();
    if !known(from) {
        return vec![format!("{manifest}: `{from}` has no floor: give it one in tests/tidy/ladder.rs")];
    }
    let mut found = Vec::new();
    for dependency in &member.dependencies {
        let Some(to) = room_of_name(&dependency.name) else { continue };
        let dev = dependency.kind.as_deref() == Some("dev");
        if !(may_use(from, to) || dev && tests_may_use(from, to)) {
            let tests = if dev { " in its tests" } else { "" };
            found.push(format!("{manifest}: `{from}` must not know `{to}`{tests}"));
        }
    }
    found
}

/// Rule: sources look down. Cargo refuses an undeclared crate; this sees the names in code that `cfg`
/// removes and in doc-tests' neighbours, and modules that are pulled in by path from elsewhere.
pub fn sources_look_down(source: &Source) -> Vec<String> {
    let Some((from, _)) = source.path.strip_prefix("crates/").and_then(|rest| rest.split_once('/')) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for index in 0..source.len() {
        if let Some(to) = room_of_name(source.word(index))
            && to != "terrace" // Too common a word to be a crate's name wherever it stands.
            && to != from
            && !may_use(from, to)
            && !tests_may_use(from, to)
        {
            found.push(source.finding(index, &format!("`{from}` must not know `{to}`")));
        }
    }
    found.extend(reaches_outside(source, from));
    found
}

/// `#[path]`, `include!` and its like stay inside the package, which is published without the rest. A model is empty without loom,
/// and may compile the production files of other rooms, so as to weaken an ordering in them.
fn reaches_outside(source: &Source, from: &str) -> Vec<String> {
    if source.path.contains("/tests/loom_") && source.text.contains("#![cfg(loom)]") {
        return Vec::new();
    }
    let home = format!("crates/{from}");
    let mut found = Vec::new();
    for index in 0..source.len() {
        let named = match source.word(index) {
            "include" | "include_str" | "include_bytes" => source.word(index + 1) == "!",
            "path" => source.word(index + 1) == "=" && source.word(index.wrapping_sub(1)) == "[",
            _ => false,
        };
        if !named {
            continue;
        }
        let line = source.line(index);
        let after = source.text[source.offset(index)..].lines().next().unwrap_or_default();
        let Some(literal) = after.split('"').nth(1) else { continue };
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !crate::pages::joined(folder, literal).is_some_and(|path| path.starts_with(&home)) {
            found.push(format!("{}:{line}: `{literal}` lies outside the package", source.path));
        }
    }
    found
}

/// Rule: `crates/heap` holds `terrace-heap`, `tests` holds `terrace-tests`; only `crates/terrace` is `terrace`.
pub fn packages_are_named_after_their_folder(tree: &Tree) -> Vec<String> {
    tree.members.iter().filter_map(misnamed).collect()
}

fn misnamed(member: &Member) -> Option<String> {
    let last = member.folder.rsplit('/').next().unwrap_or_default().replace('_', "-");
    let wanted = if member.folder == "crates/terrace" { last } else { format!("terrace-{last}") };
    let nested = !member.folder.starts_with("crates/") && member.folder.contains('/');
    let right = if nested { member.name.starts_with("terrace-") } else { member.name == wanted };
    (!right).then(|| format!("{}: `{}` should be `{wanted}`", member.manifest(), member.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Dependency;

    fn member(name: &str, folder: &str, dependencies: &[(&str, Option<&str>)]) -> Member {
        let dependency =
            |&(name, kind): &(&str, Option<&str>)| Dependency { name: name.into(), kind: kind.map(str::to_owned) };
        Member {
            name: name.into(),
            manifest_path: format!("{folder}/Cargo.toml").into(),
            description: None,
            license: None,
            readme: None,
            rust_version: None,
            publish: None,
            dependencies: dependencies.iter().map(dependency).collect(),
            folder: folder.into(),
        }
    }

    #[test]
    fn down_is_allowed_and_up_and_sideways_are_not() {
        for (from, to, allowed) in [
            ("sync", "core", true),
            ("heap", "sync", true),
            ("terrace", "memops", true),
            ("memops", "terrace", false),
            ("lab", "heap", true),
            ("lab", "trace", true),
            ("trace", "heap", true),
            ("core", "sync", false),
            ("heap", "sys", false),
            ("frame", "heap", false),
            ("heap", "trace", false),
            ("trace", "sys", false),
            ("sys", "terrace", false),
        ] {
            assert_eq!(may_use(from, to), allowed, "{from} -> {to}");
            let name = format!("terrace-{to}").replace("terrace-terrace", "terrace");
            let bad = member("x", &format!("crates/{from}"), &[(&name, None), ("libc", None)]);
            assert_eq!(manifest_looks_down(&bad).is_empty(), allowed, "{from} -> {to}");
        }
    }

    #[test]
    fn tests_may_look_sideways_but_not_up() {
        let dev = |from: &str, to| manifest_looks_down(&member("x", &format!("crates/{from}"), &[(to, Some("dev"))]));
        assert!(dev("heap", "terrace-sys").is_empty());
        assert!(dev("core", "terrace-testkit").is_empty());
        assert_eq!(dev("core", "terrace-heap"), ["crates/core/Cargo.toml: `core` must not know `heap` in its tests"]);
        assert_eq!(dev("trace", "terrace-lab").len(), 1);
    }

    #[test]
    fn a_room_without_a_floor_is_named() {
        assert_eq!(manifest_looks_down(&member("terrace-attic", "crates/attic", &[])).len(), 1);
        assert!(manifest_looks_down(&member("terrace-frame", "crates/frame", &[])).is_empty());
    }

    #[test]
    fn a_name_from_above_and_a_path_outside_are_named_with_their_line() {
        let bad = Source::new("crates/core/src/a.rs", "//! x\nuse terrace_heap::Arena;");
        assert_eq!(sources_look_down(&bad), ["crates/core/src/a.rs:2: `core` must not know `heap`"]);
        let outside = Source::new("crates/core/src/a.rs", "#[path = \"../../heap/src/bump.rs\"]\nmod bump;");
        assert_eq!(sources_look_down(&outside).len(), 1);
        for (text, findings) in [("#![cfg(loom)]\n", 0), ("", 1)] {
            let text = format!("{text}#[path = \"../../sync/src/lock.rs\"]\nmod lock;");
            assert_eq!(sources_look_down(&Source::new("crates/heap/tests/loom_smp.rs", &text)).len(), findings);
        }
        let inside = Source::new("crates/heap/src/a.rs", "include!(\"../tables.rs\"); use terrace_core::Alignment;");
        assert!(sources_look_down(&inside).is_empty());
    }

    #[test]
    fn a_package_with_another_name_than_its_folder_is_named() {
        assert!(misnamed(&member("terrace-heap", "crates/heap", &[])).is_none());
        assert!(misnamed(&member("terrace", "crates/terrace", &[])).is_none());
        assert!(misnamed(&member("terrace-no-std", "examples/no_std", &[])).is_none());
        assert!(misnamed(&member("heap", "crates/heap", &[])).is_some());
        assert!(misnamed(&member("terrace-crates", "crates/terrace", &[])).is_some());
    }
}
