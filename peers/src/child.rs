//! Counting from outside: instructions by callgrind, system calls by ptrace. Both run one competitor alone in
//! a child, with `n` and with `2 n` repetitions, so that start-up falls out of the difference.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::cells::Cell;

/// Arguments that make this program run one competitor and nothing else.
fn alone(group: &str, cell: &Cell, name: &str, repetitions: usize) -> [String; 6] {
    [group.into(), "--alone".into(), cell.name.clone(), name.into(), "--repetitions".into(), repetitions.to_string()]
}

/// User instructions per operation, or `None` where there is no valgrind.
pub fn instructions(group: &str, cell: &Cell, name: &str) -> Result<Option<f64>> {
    let repetitions = (200_000 / cell.count).clamp(2, 200);
    let mut counts = [0.0; 2];
    for (count, repetitions) in counts.iter_mut().zip([repetitions, 2 * repetitions]) {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe()?)
            .args(alone(group, cell, name, repetitions))
            .output();
        let Ok(output) = output else { return Ok(None) };
        let text = String::from_utf8_lossy(&output.stderr);
        let collected = text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
        *count = collected.context("callgrind counted nothing")?.parse()?;
    }
    Ok(Some((counts[1] - counts[0]) / (repetitions * cell.count) as f64))
}

/// System calls per repetition, by name of the number; only the memory calls that the group is about.
pub fn system_calls(group: &str, cell: &Cell, name: &str) -> Result<f64> {
    let repetitions = 50;
    let fewer = traced(group, cell, name, repetitions)?;
    let more = traced(group, cell, name, 2 * repetitions)?;
    let total = |calls: &BTreeMap<i64, u64>| calls.values().sum::<u64>() as f64;
    Ok((total(&more) - total(&fewer)) / repetitions as f64)
}

/// Runs the child to its end and counts its system calls by number.
fn traced(group: &str, cell: &Cell, name: &str, repetitions: usize) -> Result<BTreeMap<i64, u64>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(alone(group, cell, name, repetitions)).stdout(Stdio::null());
    // SAFETY: `trace_me` is one system call; it takes no lock and no memory.
    unsafe { command.pre_exec(trace_me) };
    let child = command.spawn().context("a traced child")?.id() as libc::pid_t;
    let mut calls = BTreeMap::new();
    let mut entering = true;
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and lives through the call.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
            bail!("the traced child was lost: {}", std::io::Error::last_os_error());
        }
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return Ok(calls);
        }
        if libc::WSTOPSIG(status) == libc::SIGTRAP {
            if entering && let Some(number) = call_number(child) {
                *calls.entry(number).or_default() += 1;
            }
            entering = !entering;
        }
        // SAFETY: the child is stopped, and the call touches no memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, child, 0, 0) };
    }
}

fn trace_me() -> std::io::Result<()> {
    // SAFETY: the call touches no memory of ours.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The number of the system call that the stopped child is entering.
fn call_number(child: libc::pid_t) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/{child}/syscall")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
