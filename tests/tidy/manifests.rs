//! What a manifest says: published packages can be published, the others cannot.

use crate::tree::{Member, Tree};

/// Rule: what lies under `crates/` is published and says what a registry shows; nothing else is.
pub fn published_packages_present_themselves(tree: &Tree) -> Vec<String> {
    tree.members.iter().flat_map(presents_itself).collect()
}

fn presents_itself(member: &Member) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |right: bool, says: &str| {
        if !right {
            wrong.push(format!("{}: {says}", member.manifest()));
        }
    };
    if !member.folder.starts_with("crates/") {
        check(!member.is_published(), "outside crates/, so it needs `publish = false`");
        return wrong;
    }
    let description = member.description.as_deref().unwrap_or_default();
    check(member.is_published(), "under crates/, so it is published");
    check((20..=160).contains(&description.len()), "`description` needs 20 to 160 characters");
    check(!description.ends_with('.'), "`description` is a phrase, without a full stop");
    check(member.license.as_deref() == Some("MIT OR Apache-2.0"), "`license.workspace = true` is missing");
    check(member.rust_version.is_some(), "`rust-version.workspace = true` is missing");
    check(member.readme.is_some(), "`readme.workspace = true` is missing, and there is no README.md of its own");
    wrong
}

/// Rule: every member takes the workspace's lints, and no version or path of a dependency is written twice.
pub fn manifests_inherit_from_the_workspace(tree: &Tree) -> Vec<String> {
    let texts = tree.members.iter().map(|member| (member.manifest(), tree.text(&member.manifest())));
    texts.filter_map(|(path, text)| Some((path, text?))).flat_map(|(path, text)| inherits(&path, text)).collect()
}

fn inherits(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.contains("[lints]\nworkspace = true") {
        wrong.push(format!("{path}: `[lints]` with `workspace = true` is missing"));
    }
    for key in ["version", "edition", "rust-version", "license"] {
        if text.lines().any(|line| line.split_once('=').is_some_and(|(left, _)| left.trim() == key)) {
            wrong.push(format!("{path}: `{key}` stands in the workspace: write `{key}.workspace = true`"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Member {
        Member {
            name: "terrace-heap".into(),
            manifest_path: "crates/heap/Cargo.toml".into(),
            description: Some("Allocators of bytes over any backing".into()),
            license: Some("MIT OR Apache-2.0".into()),
            readme: Some("README.md".into()),
            rust_version: Some("1.95".into()),
            publish: None,
            dependencies: Vec::new(),
            folder: "crates/heap".into(),
        }
    }

    #[test]
    fn each_missing_word_of_a_published_package_is_named() {
        assert!(presents_itself(&good()).is_empty());
        let spoil: [fn(&mut Member); 7] = [
            |member| member.description = None,
            |member| member.description = Some("Allocators of bytes, with a full stop.".into()),
            |member| member.license = Some("GPL-3.0".into()),
            |member| member.readme = None,
            |member| member.rust_version = None,
            |member| member.publish = Some(Vec::new()),
            |member| member.folder = "tests".into(),
        ];
        for (index, spoil) in spoil.iter().enumerate() {
            let mut bad = good();
            spoil(&mut bad);
            assert_eq!(presents_itself(&bad).len(), 1, "the mistake of index {index}");
        }
    }

    #[test]
    fn a_manifest_that_repeats_the_workspace_is_named() {
        let good = "version.workspace = true\n\n[lints]\nworkspace = true\n";
        assert!(inherits("Cargo.toml", good).is_empty());
        assert_eq!(inherits("Cargo.toml", "version.workspace = true").len(), 1);
        assert_eq!(inherits("Cargo.toml", &format!("version = \"1\"\n{good}")).len(), 1);
    }
}
