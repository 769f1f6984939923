//! The children: one process a contestant, started with its library preloaded, all doing the same cell in turn.
//!
//! They wait between their batches, so that the batches of all contestants lie side by side in time: the load of the
//! machine, which changes, is the same for all.

use std::{
    env,
    io::{Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::cells::Cell;

/// The word that makes this program a child.
pub const WORD: &str = "smp-work";

/// A child that waits for a letter.
pub struct Worker {
    child: Child,
    asks: Option<ChildStdin>,
    answers: ChildStdout,
}

impl Worker {
    /// Starts it; it warms up by itself.
    pub fn start(cell: &Cell, library: Option<&Path>) -> Result<Self> {
        let mut command = command(library)?;
        command.arg(WORD).args(cell.words()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("a child of the benchmark")?;
        let asks = child.stdin.take();
        let answers = child.stdout.take().context("a child's answers")?;
        Ok(Self { child, asks, answers })
    }

    /// Asks and waits for the four numbers.
    pub fn ask(&mut self, letter: u8) -> Result<[f64; 4]> {
        let mut bytes = [0; 32];
        let asked = self.asks.as_mut().context("a child that was told to end")?.write_all(&[letter]);
        if asked.and_then(|()| self.answers.read_exact(&mut bytes)).is_err() {
            bail!("it ended in the middle: {}", self.child.wait()?);
        }
        let mut figures = bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        Ok(std::array::from_fn(|_| figures.next().unwrap_or_default()))
    }
}

impl Drop for Worker {
    /// No more letters, so it ends; its parent waits for that.
    fn drop(&mut self) {
        self.asks = None;
        let _ = self.child.wait();
    }
}

/// This program, with `library` before the C library.
fn command(library: Option<&Path>) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    prepare(&mut command, library);
    Ok(command)
}

/// Preloads `library`, and nothing else; nothing in the environment tunes an allocator, one case apart.
pub fn prepare(command: &mut Command, library: Option<&Path>) {
    let words = ["MALLOC_", "MIMALLOC_", "TCMALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"];
    let tunes = |name: &str| words.iter().any(|word| name.starts_with(word));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(tunes)) {
        command.env_remove(name);
    }
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
        // Its documentation asks for it: the C library's own use of restartable sequences keeps it from using them.
        if library.ends_with("libtcmalloc.so") {
            command.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
        }
    }
}

/// That a child started with `library` is served by it, and not by the C library under another name.
pub fn probe(library: &Path) -> Result<()> {
    let output = command(Some(library))?.args([WORD, "probe"]).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ({}) {}", library.display(), output.status, said.trim());
    Ok(())
}
