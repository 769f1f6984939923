//! Finds the program to record and says beforehand why it could not be recorded.
//!
//! The dynamic linker is what puts the recorder into a program, so it must be asked for: an ELF file of this
//! machine with an interpreter (`PT_INTERP`), or a script whose interpreter is one. And the kernel must
//! not forbid it, as it does where a program runs with another user's rights.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::os;

/// As much of a file as its headers may take.
const HEAD_BYTES: u64 = 64 * 1024;
/// A script's interpreter may be a script, but Linux follows only so many.
const SCRIPTS: usize = 5;

/// The file that `name` means, as a shell would find it, checked so far as can be without running it.
pub fn find(name: &OsStr) -> Result<PathBuf> {
    let path = if name.as_encoded_bytes().contains(&b'/') { PathBuf::from(name) } else { search(name)? };
    let shown = path.display();
    if !path.exists() {
        bail!("there is no program {shown}: check the path");
    }
    if path.is_dir() {
        bail!("{shown} is a directory: name the program in it");
    }
    if !os::may_execute(&path) {
        bail!("{shown} is not executable: allow it with chmod +x, or name its interpreter first");
    }
    check(&path, SCRIPTS)?;
    Ok(path)
}

fn search(name: &OsStr) -> Result<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut candidates = std::env::split_paths(&directories).map(|directory| directory.join(name));
    candidates.find(|path| path.is_file() && os::may_execute(path)).ok_or_else(|| {
        anyhow::anyhow!("there is no program named {} in PATH: check the name, or give its path", name.display())
    })
}

fn check(path: &Path, scripts: usize) -> Result<()> {
    let shown = path.display();
    if os::runs_as_another(path) {
        bail!(
            "{shown} runs with another user's rights, so nothing may be preloaded: record it as that user, or a copy"
        );
    }
    let mut head = Vec::new();
    if let Err(error) = std::fs::File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head)) {
        bail!("{shown} cannot be read to see what it is ({error}): ask for the right to read it");
    }
    match kind(&head, std::env::consts::ARCH) {
        Kind::Dynamic { musl: false } => Ok(()),
        Kind::Dynamic { musl: true } => {
            bail!("{shown} uses musl's C library, the recorder glibc's: link it with glibc")
        }
        Kind::Static => {
            bail!(
                "{shown} is statically linked, so the recorder cannot get between it and its malloc: link it dynamically"
            )
        }
        Kind::OtherMachine => {
            bail!("{shown} is a program for another machine: record it there, with a lab built there")
        }
        Kind::Script(_) if scripts == 0 => {
            bail!("{shown} names too many interpreters in turn: name the last one first")
        }
        Kind::Script(interpreter) => {
            let interpreter = Path::new(&interpreter);
            if !interpreter.is_file() {
                bail!("{shown} is a script for {}, which is not there: install it", interpreter.display());
            }
            check(interpreter, scripts - 1)
        }
        Kind::Unknown => bail!("{shown} is neither a program nor a script with #!: name its interpreter first"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Dynamic { musl: bool },
    Static,
    OtherMachine,
    Script(String),
    Unknown,
}

/// What a file is that begins with `head`. `arch` is Rust's name for this machine.
fn kind(head: &[u8], arch: &str) -> Kind {
    if let Some(rest) = head.strip_prefix(b"#!") {
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return line.split_whitespace().next().map_or(Kind::Unknown, |word| Kind::Script(word.to_owned()));
    }
    if !head.starts_with(b"\x7fELF") {
        return Kind::Unknown;
    }
    let machine = match arch {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => return Kind::OtherMachine,
    };
    // 64 bits, little-endian, this machine.
    if head.get(4..6) != Some(&[2, 1]) || number(head, 18, 2) != Some(machine) {
        return Kind::OtherMachine;
    }
    match interpreter(head) {
        Some(name) => Kind::Dynamic { musl: name.windows(7).any(|part| part == b"ld-musl") },
        None => Kind::Static,
    }
}

/// The interpreter that an ELF file's program headers name.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    let (table, entry_bytes, entries) = (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?);
    let entry = (0..entries)
        .map(|index| usize::try_from(table.checked_add(index.checked_mul(entry_bytes)?)?).ok())
        .map_while(|entry| entry)
        .find(|&entry| number(head, entry, 4) == Some(PT_INTERP))?;
    let from = usize::try_from(number(head, entry.checked_add(8)?, 8)?).ok()?;
    let len = usize::try_from(number(head, entry.checked_add(32)?, 8)?).ok()?;
    // A name beyond what was read: there is one, which is what matters.
    Some(from.checked_add(len).and_then(|end| head.get(from..end)).unwrap_or_default())
}

fn number(head: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let field = head.get(at..at.checked_add(bytes)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little ELF file with one program header of this type.
    fn elf(class: u8, machine: u8, header_type: u8, interpreter: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
        file[18] = machine;
        file[32] = 64; // the headers' table
        (file[54], file[56]) = (56, 1);
        file[64] = header_type;
        (file[64 + 8], file[64 + 32]) = (64 + 56, interpreter.len() as u8);
        file.extend(interpreter);
        file
    }

    #[test]
    fn an_elf_file_tells_by_its_interpreter_whether_it_is_dynamic() {
        assert_eq!(kind(&elf(2, 62, 3, b"/lib64/ld-linux-x86-64.so.2\0"), "x86_64"), Kind::Dynamic { musl: false });
        assert_eq!(kind(&elf(2, 62, 3, b"/lib/ld-musl-x86_64.so.1\0"), "x86_64"), Kind::Dynamic { musl: true });
        assert_eq!(kind(&elf(2, 62, 1, b""), "x86_64"), Kind::Static);
        assert_eq!(kind(&elf(1, 3, 3, b"/lib/ld-linux.so.2\0"), "x86_64"), Kind::OtherMachine);
        assert_eq!(kind(&elf(2, 62, 3, b"/lib/ld.so\0"), "aarch64"), Kind::OtherMachine);
    }

    #[test]
    fn a_script_is_its_interpreters_matter() {
        assert_eq!(kind(b"#! /usr/bin/env -S python3 -u\nprint()", "x86_64"), Kind::Script("/usr/bin/env".into()));
        assert_eq!(kind(b"#!\n", "x86_64"), Kind::Unknown);
        assert_eq!(kind(b"echo hello\n", "x86_64"), Kind::Unknown);
        assert_eq!(kind(b"", "x86_64"), Kind::Unknown);
    }

    #[test]
    fn a_torn_or_hostile_header_is_no_panic() {
        let whole = elf(2, 62, 3, b"/lib64/ld-linux-x86-64.so.2\0");
        for len in 0..whole.len() {
            kind(&whole[..len], "x86_64");
        }
        for at in 0..120 {
            let mut file = whole.clone();
            file[at..(at + 8).min(120)].fill(0xff);
            kind(&file, "x86_64");
        }
    }
}
