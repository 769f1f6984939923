//! What `record` asks of the operating system beyond the standard library.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

pub use imp::*;

#[cfg(unix)]
mod imp {
    use std::ffi::{CString, OsStr};
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

    use super::*;

    /// One call of the kernel instead of a fault for every few pages; the pages of a chunk are there.
    #[cfg(target_os = "linux")]
    const POPULATE: libc::c_int = libc::MAP_POPULATE;
    #[cfg(not(target_os = "linux"))]
    const POPULATE: libc::c_int = 0;

    /// Whether this process may execute a file.
    pub fn may_execute(path: &Path) -> bool {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
        // SAFETY: `path` ends in 0.
        unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
    }

    /// Whether a file would run with rights that this process does not have: the dynamic linker then preloads nothing.
    pub fn runs_as_another(path: &Path) -> bool {
        let Ok(file) = path.metadata() else { return false };
        // SAFETY: takes nothing and cannot fail.
        let user = unsafe { libc::geteuid() };
        // SAFETY: as above.
        let group = unsafe { libc::getegid() };
        let set = |bit: u32| file.mode() & bit != 0;
        (set(0o4000) && file.uid() != user) || (set(0o2000) && file.gid() != group)
    }

    /// Lets the program see `name` as the name that it was started by.
    pub fn set_name(command: &mut Command, name: &OsStr) {
        command.arg0(name);
    }

    /// A file that others may read, less the umask, where temporary ones are private.
    pub fn like_an_ordinary_file(file: &mut tempfile::Builder<'_, '_>) {
        file.permissions(PermissionsExt::from_mode(0o666));
    }

    /// The signal that ended a program, with its name.
    pub fn signal(status: ExitStatus) -> Option<(i32, String)> {
        let number = status.signal()?;
        // SAFETY: the C library returns a constant or the thread's own string, or null.
        let name = unsafe { libc::strsignal(number) };
        if name.is_null() {
            return Some((number, format!("signal {number}")));
        }
        // SAFETY: a string that stays at least until the next call, of which there is none meanwhile.
        let name = unsafe { std::ffi::CStr::from_ptr(name) };
        Some((number, name.to_string_lossy().into_owned()))
    }

    /// Whether a process is there no more; one that its parent has not asked about is there still.
    pub fn is_gone(process: u64) -> bool {
        let Ok(process @ 1..) = i32::try_from(process) else { return false };
        // SAFETY: sends no signal, asks only.
        let asked = unsafe { libc::kill(process, 0) };
        asked != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
    }

    /// A file's words, which others write meanwhile.
    ///
    /// - **W1** `start` begins a readable mapping of `len` words, which lasts as long as this.
    pub struct Words {
        start: NonNull<AtomicU64>,
        len: usize,
    }

    impl Words {
        /// The first `bytes` of a file at most, less what is no whole word.
        pub fn map(path: &Path, bytes: u64) -> io::Result<Self> {
            let file = std::fs::File::open(path)?;
            let len = (file.metadata()?.len().min(bytes) / 8) as usize;
            if len == 0 {
                return Ok(Self { start: NonNull::dangling(), len });
            }
            // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
            let start = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len * 8,
                    libc::PROT_READ,
                    libc::MAP_SHARED | POPULATE,
                    file.as_raw_fd(),
                    0,
                )
            };
            match NonNull::new(start.cast()) {
                Some(words) if start != libc::MAP_FAILED => Ok(Self { start: words, len }),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    impl std::ops::Deref for Words {
        type Target = [AtomicU64];

        fn deref(&self) -> &[AtomicU64] {
            // SAFETY: by W1; all use is atomic, the other processes' too.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
        }
    }

    impl Drop for Words {
        fn drop(&mut self) {
            if self.len > 0 {
                // SAFETY: by W1 the whole mapping, and nobody borrows it any more.
                unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * 8) };
            }
        }
    }

    static PROGRAM: AtomicI32 = AtomicI32::new(0);
    const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];

    /// Runs a program to its end, and `beside` it, with its process id; `ended` is called as soon as it has
    /// ended. Signals that ask to stop are the program's business: those of the
    /// terminal reach it anyway, those that somebody sent to the lab alone are passed on.
    pub fn run<T>(
        command: &mut Command,
        ended: impl FnOnce() + Send,
        beside: impl FnOnce(u32) -> T,
    ) -> io::Result<(ExitStatus, T)> {
        let before = SIGNALS.map(catch);
        let outcome = command.spawn().and_then(|mut child| {
            let process = child.id();
            PROGRAM.store(process.cast_signed(), Ordering::Release);
            let wait = move || {
                let status = child.wait();
                PROGRAM.store(0, Ordering::Release);
                ended();
                status
            };
            let (status, result) = std::thread::scope(|scope| {
                let waiting = scope.spawn(wait);
                let result = beside(process);
                (waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), result)
            });
            Ok((status?, result))
        });
        for (signal, before) in SIGNALS.into_iter().zip(before) {
            restore(signal, &before);
        }
        outcome
    }

    /// Passes a signal on that was not the kernel's, which the terminal's are.
    extern "C" fn pass_on(signal: libc::c_int, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
        let program = PROGRAM.load(Ordering::Acquire);
        // SAFETY: the kernel passes a valid one to handlers that asked for it.
        let sent = unsafe { (*information).si_code } <= 0;
        if sent && program > 0 {
            // SAFETY: allowed in a handler; at worst the program has just ended.
            unsafe { libc::kill(program, signal) };
        }
    }

    fn catch(signal: libc::c_int) -> libc::sigaction {
        // SAFETY: all zero is a valid `sigaction`: no flags, an empty mask, the default action.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: reads the present action into our own variable.
        unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut before) };
        if before.sa_sigaction != libc::SIG_IGN {
            let mut ours = before;
            ours.sa_sigaction = pass_on as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            // SAFETY: `pass_on` has the type that SA_SIGINFO wants, and does only what a handler may.
            unsafe { libc::sigaction(signal, &raw const ours, std::ptr::null_mut()) };
        }
        before
    }

    fn restore(signal: libc::c_int, before: &libc::sigaction) {
        // SAFETY: the action that stood here before.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    }
}

/// Never reached: without a recorder `record` says so first.
#[cfg(not(unix))]
mod imp {
    use std::ffi::OsStr;
    use std::sync::atomic::AtomicU64;

    use super::*;

    pub fn may_execute(path: &Path) -> bool {
        path.is_file()
    }

    pub fn runs_as_another(_: &Path) -> bool {
        false
    }

    pub fn set_name(_: &mut Command, _: &OsStr) {}

    pub fn like_an_ordinary_file(_: &mut tempfile::Builder<'_, '_>) {}

    pub fn signal(_: ExitStatus) -> Option<(i32, String)> {
        None
    }

    pub fn run<T>(
        command: &mut Command,
        ended: impl FnOnce() + Send,
        beside: impl FnOnce(u32) -> T,
    ) -> io::Result<(ExitStatus, T)> {
        let mut child = command.spawn()?;
        let status = child.wait()?;
        ended();
        Ok((status, beside(child.id())))
    }

    pub fn is_gone(_: u64) -> bool {
        false
    }

    pub struct Words;

    impl Words {
        pub fn map(_: &Path, _: u64) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl std::ops::Deref for Words {
        type Target = [AtomicU64];

        fn deref(&self) -> &[AtomicU64] {
            &[]
        }
    }
}
