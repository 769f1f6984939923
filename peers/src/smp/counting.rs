//! Instructions of a malloc and its free: by callgrind, or where a contestant does not run in valgrind (snmalloc reserves
//! more addresses than it has) by letting the processor do one instruction at a time.
//!
//! Either way the same loop is counted without the calls and taken off.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    cells::Cell,
    children::{self, WORD},
    contestants::Contestant,
};

/// Operations of a run that is stepped through: each instruction is two switches between processes.
const STEPPED: usize = 200;

/// Instructions of an operation.
pub fn instructions(cell: &Cell, contestant: &Contestant) -> Result<f64> {
    let by_callgrind = |what: &str| -> Result<f64> {
        let fewer = callgrind(contestant, what, cell.count)?;
        Ok((callgrind(contestant, what, 2 * cell.count)? - fewer) / cell.count as f64)
    };
    let by_steps = |what: &str| -> Result<f64> { Ok(steps(contestant, what)? as f64 / STEPPED as f64) };
    match by_callgrind("pair") {
        Ok(pair) => Ok(pair - by_callgrind("loop")?),
        Err(why) => {
            eprintln!("{}: {why:#}; counted step by step", contestant.name);
            Ok(by_steps("pair")? - by_steps("loop")?)
        }
    }
}

fn callgrind(contestant: &Contestant, what: &str, count: usize) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    children::prepare(&mut command, contestant.library.as_deref());
    command.args([WORD, what, &count.to_string()]).stdin(Stdio::null());
    let output = command.output().context("valgrind cannot be started (apt-get install valgrind)")?;
    ensure!(output.status.success(), "does not run in valgrind ({})", output.status);
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    Ok(collected.context("callgrind counted nothing")?.1.trim().parse()?)
}

/// Instructions between the child's two signals.
fn steps(contestant: &Contestant, what: &str) -> Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    children::prepare(&mut command, contestant.library.as_deref());
    command.args([WORD, &format!("marked-{what}"), &STEPPED.to_string()]).stdin(Stdio::null());
    // SAFETY: `trace_me` is one system call; it takes no lock and no memory.
    unsafe { command.pre_exec(trace_me) };
    let child = command.spawn().context("a traced child")?.id() as libc::pid_t;
    let mut counted = 0;
    let mut between = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and lives through the call.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
            bail!("the traced child was lost: {}", std::io::Error::last_os_error());
        }
        if !libc::WIFSTOPPED(status) {
            ensure!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "it ended with {status:#x}");
            return Ok(counted);
        }
        match libc::WSTOPSIG(status) {
            libc::SIGUSR1 => between = !between,
            libc::SIGTRAP => counted += u64::from(between),
            signal => bail!("it was stopped by signal {signal}"),
        }
        let request = if between { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_CONT };
        // SAFETY: the child is stopped, and the call touches no memory of ours; the signal is not passed on.
        unsafe { libc::ptrace(request, child, 0, 0) };
    }
}

fn trace_me() -> std::io::Result<()> {
    // SAFETY: the call touches no memory of ours.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
