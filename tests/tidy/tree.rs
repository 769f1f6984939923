//! What the rules read: the files of the checkout, and cargo's word on its members.
//!
//! In a checkout the files are those that git tracks; elsewhere (an unpacked archive) all that lie
//! under the root but `target` and hidden folders.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::source::Source;

/// The workspace, read once.
pub struct Tree {
    pub root: PathBuf,
    pub files: Vec<File>,
    pub sources: Vec<Source>,
    pub members: Vec<Member>,
}

/// A file and its path from the root, with `/` between the folders.
pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
}

impl File {
    /// The text, where it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// A package of the workspace, as `cargo metadata` has it.
#[derive(Clone, Deserialize)]
pub struct Member {
    pub name: String,
    pub manifest_path: PathBuf,
    pub description: Option<String>,
    pub license: Option<String>,
    pub readme: Option<PathBuf>,
    pub rust_version: Option<String>,
    /// `Some` of an empty list is `publish = false`.
    pub publish: Option<Vec<String>>,
    pub dependencies: Vec<Dependency>,
    /// The folder from the root, with `/` between the folders; filled in by [`Tree::load`].
    #[serde(default)]
    pub folder: String,
}

/// A line of `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]`.
#[derive(Clone, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None`, `dev` or `build`.
    pub kind: Option<String>,
}

impl Member {
    pub fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    /// The manifest's path from the root.
    pub fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }
}

impl Tree {
    /// Reads the workspace that this file belongs to.
    pub fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root is there");
        let mut paths = tracked(&root).unwrap_or_else(|| walked(&root));
        paths.sort();
        let files: Vec<File> = paths
            .into_iter()
            .filter_map(|path| fs::read(root.join(&path)).ok().map(|bytes| File { path, bytes }))
            .collect();
        let sources = files
            .iter()
            .filter(|file| file.path.ends_with(".rs"))
            .map(|file| Source::new(&file.path, file.text().expect("a source is UTF-8")))
            .collect();
        let members = members(&root);
        Self { root, files, sources, members }
    }

    /// The text of the file at `path`, where there is one.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text()
    }

    /// The markdown pages: path and text.
    pub fn pages(&self) -> impl Iterator<Item = (&str, &str)> {
        let markdown = self.files.iter().filter(|file| file.path.ends_with(".md"));
        markdown.filter_map(|file| Some((file.path.as_str(), file.text()?)))
    }
}

/// The files that git tracks, or `None` outside a checkout of this very workspace.
fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().ok()?;
    let list = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = list.split_terminator('\0').map(str::to_owned).collect();
    (output.status.success() && paths.iter().any(|path| path == "Cargo.toml")).then_some(paths)
}

fn walked(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.to_string_lossy().starts_with('.') && name != ".ci" && name != ".cargo";
            if path.is_dir() && !hidden && name != "target" {
                folders.push(path);
            } else if path.is_file() {
                found.push(relative(root, &path));
            }
        }
    }
    found
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn members(root: &Path) -> Vec<Member> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Member>,
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    for member in &mut metadata.packages {
        let folder = member.manifest_path.parent().expect("a manifest lies in a folder");
        member.folder = relative(root, &folder.canonicalize().expect("the folder is there"));
    }
    metadata.packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_the_walk_finds_the_same_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        let walked = walked(&root);
        for path in ["Cargo.toml", "tests/tidy/tree.rs", ".ci/run"] {
            assert!(walked.iter().any(|found| found == path), "{path} was not found");
        }
        assert!(walked.iter().all(|path| !path.starts_with("target/") && !path.starts_with(".git/")));
    }

    #[test]
    fn an_empty_publish_list_means_unpublished() {
        let member = |publish: &str| -> Member {
            let json = format!(
                r#"{{"name": "a", "manifest_path": "a/Cargo.toml", "description": null, "license": null, "readme": null,
                    "rust_version": null, "publish": {publish}, "dependencies": []}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        assert!(member("null").is_published());
        assert!(!member("[]").is_published());
    }
}
