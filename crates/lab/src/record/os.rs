//! What `record` asks of the operating system beyond the standard library.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

pub use imp::*;

#[cfg(unix)]
mod imp {
    use std::ffi::{CString, OsStr};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

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

    static PROGRAM: AtomicI32 = AtomicI32::new(0);
    const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];

    /// Runs a program to its end. Signals that ask to stop are the program's business: those of the
    /// terminal reach it anyway, those that somebody sent to the lab alone are passed on.
    /// Returns its process id and how it ended.
    pub fn run(command: &mut Command) -> io::Result<(u32, ExitStatus)> {
        let before = SIGNALS.map(catch);
        let outcome = command.spawn().and_then(|mut child| {
            PROGRAM.store(child.id().cast_signed(), Ordering::Release);
            let status = child.wait();
            PROGRAM.store(0, Ordering::Release);
            Ok((child.id(), status?))
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

    pub fn run(command: &mut Command) -> io::Result<(u32, ExitStatus)> {
        let mut child = command.spawn()?;
        Ok((child.id(), child.wait()?))
    }
}
