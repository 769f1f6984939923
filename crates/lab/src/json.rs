//! `--json FILE`: figures for scripts. `-` is stdout.
#![forbid(unsafe_code)]

use std::{
    fs::{self, OpenOptions},
    io::{self, Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use serde::Serialize;

/// Where the figures go; none where nobody asked.
pub struct Sink(Option<PathBuf>);

impl Sink {
    /// Tried at once, so that a wrong path is not found out after a minute of work.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = path.filter(|path| *path != Path::new("-")) {
            // Neither emptied nor, where the command fails later, left behind changed.
            let existed = path.exists();
            OpenOptions::new().append(true).create(true).open(path).map_err(|error| refusal(path, &error))?;
            if !existed {
                let _ = fs::remove_file(path);
            }
        }
        Ok(Self(path.map(Path::to_path_buf)))
    }

    /// Whether the figures take stdout, where no text should then go.
    pub fn takes_stdout(&self) -> bool {
        self.0.as_deref() == Some(Path::new("-"))
    }

    /// Prints `text`, unless stdout is for the figures.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn say(&self, text: &str) -> anyhow::Result<()> {
        if !self.takes_stdout() {
            let mut out = stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    }

    /// Writes `figures`, if somebody asked.
    ///
    /// # Errors
    /// Where the file cannot be written, or the disk is full.
    pub fn write(&self, figures: &impl Serialize) -> anyhow::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut text = serde_json::to_string_pretty(figures)?;
        text.push('\n');
        if self.takes_stdout() {
            let mut out = stdout().lock();
            out.write_all(text.as_bytes())?;
            return Ok(out.flush()?);
        }
        fs::write(path, text).map_err(|error| refusal(path, &error))
    }
}

fn refusal(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow!("{} cannot be written: {error}; name another file for --json, or `-` for stdout", path.display())
}
