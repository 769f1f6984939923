//! Who takes part: shared libraries that serve the C interface, each preloaded into the same child program.
//!
//! No contestant has a layer between the child's `malloc` and its own. The peers' sources lie in crates, which
//! `peers/preload/Cargo.toml` names; they are compiled with the flags that their own builds use for a shared library.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    children,
    recipes::{self, Places},
};
use crate::harness::OURS;

/// One who takes part, or the reason why not.
#[derive(Serialize, Clone)]
pub struct Contestant {
    pub name: &'static str,
    /// Where the sources come from.
    pub source: String,
    /// What is preloaded; `None` for the C library's own.
    #[serde(skip)]
    pub library: Option<PathBuf>,
    /// Why it does not take part, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// Every name that `--against` takes, ours first.
pub const NAMES: [&str; 10] =
    [OURS, "glibc", "mimalloc2", "mimalloc3", "snmalloc", "jemalloc", "rpmalloc", "tcmalloc", "gperftools", "zig"];

/// Builds those asked for, all where `against` is empty. Ours takes part always.
pub fn gather(against: &[String], ours: Option<&Path>) -> anyhow::Result<Vec<Contestant>> {
    if let Some(unknown) = against.iter().find(|name| !NAMES.contains(&name.as_str())) {
        anyhow::bail!("no contestant is called {unknown}; there are {}", NAMES.join(", "));
    }
    let places = Places::new();
    fs::create_dir_all(&places.libraries)?;
    let asked = |name: &str| name == OURS || against.is_empty() || against.iter().any(|asked| asked == name);
    Ok(NAMES.into_iter().filter(|name| asked(name)).map(|name| contestant(name, &places, ours)).collect())
}

fn contestant(name: &'static str, places: &Places, ours: Option<&Path>) -> Contestant {
    if name != "glibc" {
        eprintln!("preparing {name}");
    }
    let found = match name {
        "glibc" => return Contestant { name, source: "the system's".into(), library: None, absent: None },
        OURS => recipes::ours(places, ours),
        "mimalloc2" => recipes::mimalloc(places, "v2"),
        "mimalloc3" => recipes::mimalloc(places, "v3"),
        "snmalloc" => recipes::snmalloc(places),
        "jemalloc" => recipes::jemalloc(places),
        "rpmalloc" => recipes::rpmalloc(places),
        "tcmalloc" => recipes::tcmalloc(places),
        "gperftools" => recipes::gperftools(),
        _ => recipes::zig(places),
    };
    let checked = found.and_then(|(library, source)| children::probe(&library).map(|()| (library, source)));
    match checked {
        Ok((library, source)) => Contestant { name, source, library: Some(library), absent: None },
        Err(why) => {
            eprintln!("{name} does not take part: {why:#}");
            Contestant { name, source: String::new(), library: None, absent: Some(format!("{why:#}")) }
        }
    }
}
