//! Finds the markdown pages of the book and turns each into a module whose docs are the page,
//! so that `cargo test --doc` runs its Rust code and no page can be forgotten.
//!
//! Pages are the `*.md` files of the root and of `docs/`, and each member's own `README.md`.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The pages of the root are watched by name: watching the root itself would watch `target` too.
const ROOT_PAGES: [&str; 5] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    for page in ROOT_PAGES {
        println!("cargo::rerun-if-changed={}", root.join(page).display());
    }
    println!("cargo::rerun-if-changed={}", root.join("docs").display());

    let mut pages = Vec::new();
    markdown_in(&root, &mut pages)?;
    for folder in ["crates", "examples", "peers", "tests"] {
        member_readmes(&root.join(folder), &mut pages)?;
    }
    everything_under(&root.join("docs"), &mut pages)?;
    pages.sort();

    let mut list = String::from("/// The pages whose Rust code is tested, relative to the workspace's root.\n");
    let mut modules = String::new();
    list.push_str("pub const PAGES: &[&str] = &[\n");
    for page in &pages {
        let name = page.strip_prefix(&root)?.to_str().ok_or("a page's name is not UTF-8")?;
        writeln!(list, "    {name:?},")?;
        writeln!(modules, "#[cfg(doctest)]\n#[doc = include_str!({:?})]\nmod {} {{}}", page, module_name(name))?;
    }
    list.push_str("];\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("pages.rs"), list + &modules)?;
    Ok(())
}

/// `docs/measurements/lab.md` is tested as `docs_measurements_lab_md`.
fn module_name(page: &str) -> String {
    page.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

fn markdown_in(folder: &Path, pages: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// The `README.md` of `folder` and of each folder in it.
fn member_readmes(folder: &Path, pages: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut folders = vec![folder.to_path_buf()];
    for entry in fs::read_dir(folder)? {
        folders.push(entry?.path());
    }
    for page in folders.into_iter().map(|folder| folder.join("README.md")) {
        println!("cargo::rerun-if-changed={}", page.display());
        if page.is_file() {
            pages.push(page);
        }
    }
    Ok(())
}

fn everything_under(folder: &Path, pages: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    markdown_in(folder, pages)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            everything_under(&path, pages)?;
        }
    }
    Ok(())
}
