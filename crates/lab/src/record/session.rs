//! One recording: the spool's folder with the recorder in it, the program started with both, and
//! what the control page says afterwards.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::spool::{CONTROL_FILE, SPOOL_VARIABLE, control};

/// The library that the build script compiled; empty where it could not be.
static RECORDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/recorder.so"));
const RECORDER_FILE: &str = "terrace-recorder.so";
const PRELOAD: &str = "LD_PRELOAD";

/// A folder that recorded processes write to. Dropped, it is removed, and what still writes to it stops.
pub struct Session {
    folder: TempDir,
    recorder: PathBuf,
}

impl Session {
    /// A new spool in `parent`. One that is there to calibrate ends its processes at once.
    pub fn new(parent: &Path, calibrate: bool) -> Result<Self> {
        if RECORDER.is_empty() {
            bail!("recording works on Linux with glibc, on x86-64 and AArch64, which this lab was not built for");
        }
        let shown = parent.display().to_string();
        let parent = parent
            .canonicalize()
            .with_context(|| format!("there is no folder {shown}: make it or name another with --spool"))?;
        if parent.as_os_str().as_encoded_bytes().iter().any(|byte| b" \t\n:;".contains(byte)) {
            bail!("the dynamic linker takes no path with spaces or colons such as {shown}: name another with --spool");
        }
        let folder = tempfile::Builder::new().prefix("terrace-spool-").tempdir_in(&parent);
        let folder = folder.with_context(|| format!("no spool can be made in {shown}: name another with --spool"))?;
        let session = Self { recorder: folder.path().join(RECORDER_FILE), folder };
        session
            .fill(calibrate)
            .with_context(|| format!("the disk of {shown} may be full: name another with --spool"))?;
        Ok(session)
    }

    fn fill(&self, calibrate: bool) -> std::io::Result<()> {
        let mut words = [0; control::WORDS];
        words[0] = control::MAGIC;
        words[control::CALIBRATE] = u64::from(calibrate);
        let page: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        fs::write(self.folder.path().join(CONTROL_FILE), page)?;
        fs::write(&self.recorder, RECORDER)
    }

    /// Where the chunks are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lets `command` and all that it starts be recorded here. What is preloaded already stays, behind the
    /// recorder, except another lab's recorder: what is recorded twice would be written here twice.
    pub fn attach(&self, command: &mut Command) {
        let others = std::env::var_os(PRELOAD).unwrap_or_default();
        let mut preload = self.recorder.clone().into_os_string();
        for library in std::env::split_paths(&others).filter(|library| !library.ends_with(RECORDER_FILE)) {
            preload.push(":");
            preload.push(library);
        }
        command.env(PRELOAD, preload).env(SPOOL_VARIABLE, self.folder.path());
    }

    /// What the control page says.
    pub fn control(&self) -> Result<Control> {
        let bytes = fs::read(self.folder.path().join(CONTROL_FILE)).context("the spool's control page is gone")?;
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        if words.len() != control::WORDS || words[0] != control::MAGIC {
            bail!("the recorded program wrote over the spool's control page: record it again");
        }
        Ok(Control { words })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What outlives the program would write on, and fill the disk.
        let stop = || {
            let mut page = fs::File::options().write(true).open(self.folder.path().join(CONTROL_FILE))?;
            page.seek(SeekFrom::Start(control::STOP as u64 * 8))?;
            page.write_all(&u64::MAX.to_ne_bytes())
        };
        let _: std::io::Result<()> = stop();
        // A chunk may have come meanwhile; then the folder goes when it is dropped itself.
        let _ = fs::remove_dir_all(self.folder.path());
    }
}

/// The control page, read once.
pub struct Control {
    words: Vec<u64>,
}

impl Control {
    /// A word of it.
    pub fn word(&self, offset: usize) -> u64 {
        self.words[offset]
    }

    /// The stamp from which on nothing is to be read.
    pub fn until(&self) -> u64 {
        self.stop().map_or(self.word(control::STAMP), |(stamp, _)| stamp)
    }

    /// Where and why recording stopped early: a stamp and an error's number.
    pub fn stop(&self) -> Option<(u64, i32)> {
        let stop = self.word(control::STOP);
        (stop != 0).then_some((stop >> 16, (stop & 0xffff) as i32))
    }
}

/// Starts this lab once more with the recorder, which times itself and ends the process before the
/// lab begins. So the cost of a call is known, and that the recorder can be loaded from the spool's disk.
/// Returns nanoseconds for a call without and with the recorder.
pub fn calibrate(parent: &Path) -> Result<(f64, f64)> {
    let session = Session::new(parent, true)?;
    let lab = std::env::current_exe().context("the lab does not find its own program file")?;
    let mut command = Command::new(lab);
    session.attach(&mut command);
    // Should the recorder not be loaded after all, this does no harm.
    command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().context("the lab cannot start itself to time the recorder")?;
    let control = session.control()?;
    if let Some((_, error)) = control.stop() {
        bail!("{}", why_it_stopped(error, parent));
    }
    if control.word(control::LOADED) == 0 || control.word(control::RECORDED_PS) == 0 {
        let folder = parent.display();
        bail!(
            "the recorder cannot be loaded from {folder} ({status}): name a folder where programs may run with --spool"
        );
    }
    let nanoseconds = |offset| control.word(offset) as f64 / 1000.0;
    Ok((nanoseconds(control::PLAIN_PS), nanoseconds(control::RECORDED_PS)))
}

/// The cause and the remedy, where the recorder met this error.
pub fn why_it_stopped(error: i32, parent: &Path) -> String {
    let folder = parent.display();
    match error {
        libc::ENOSPC | libc::EDQUOT => {
            format!("the disk of the spool {folder} is full: free some room or name another with --spool")
        }
        libc::EFBIG => "the program may not write files as large as the spool's: raise the limit with ulimit -f".into(),
        libc::EMFILE | libc::ENFILE => "the program has no file left to open: raise the limit with ulimit -n".into(),
        libc::EACCES | libc::EPERM | libc::ENOENT => format!(
            "the program can no longer reach the spool {folder}, as where it changes its user or root: \
             name one that it can reach with --spool"
        ),
        libc::EINVAL => "the kernel is older than Linux 4.14, which the recorder needs: record on a newer one".into(),
        _ => {
            let error = std::io::Error::from_raw_os_error(error);
            format!("the recorder could not write to the spool {folder} ({error}): name another with --spool")
        }
    }
}

/// The command, ready to run; `name` is what the program sees as its own name.
pub fn command(path: &Path, name: &OsStr, arguments: &[OsString]) -> Command {
    let mut command = Command::new(path);
    super::os::set_name(&mut command, name);
    command.args(arguments);
    command
}
