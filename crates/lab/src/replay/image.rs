//! A [`Program`] as a file, in which the lab hands it to its child processes.
//!
//! The parent decodes the trace once; the children read flat numbers. They never decompress, so
//! the malloc that they measure has served nobody before (glibc moves its mmap threshold once a
//! large block was freed).
//!
//! ```text
//! 8 u64: magic, slots, lives, ops, leftovers, peak_at, peak_live_bytes, total_bytes, empty_blocks
//! lives × (born u64, ends u64) · (ops + leftovers) × 24 bytes · ops × thread u32
//! ```
//!
//! Little-endian; written and read by one and the same binary. Cost: a copy.
#![forbid(unsafe_code)]

use std::{
    io::{self, Read, Write},
    iter,
};

use anyhow::{Context, ensure};

use super::program::{Call, Life, Op, Program};

const MAGIC: u64 = u64::from_le_bytes(*b"terrace\x01");
const HEADER: usize = 9;
const OP_BYTES: usize = 24;

/// # Errors
/// Those of `out`.
pub fn write(program: &Program, out: &mut impl Write) -> io::Result<()> {
    let counts = [program.lives.len(), program.ops.len(), program.leftovers.len()].map(|count| count as u64);
    let header = [MAGIC, program.slots.into()].into_iter().chain(counts);
    let figures = [program.peak_at, program.peak_live_bytes, program.total_bytes, program.empty_blocks];
    let lives = program.lives.iter().flat_map(|life| [life.born, life.ends.into()]);
    for number in header.chain(figures).chain(lives) {
        out.write_all(&number.to_le_bytes())?;
    }
    for op in program.ops.iter().chain(&program.leftovers) {
        out.write_all(&op_to_bytes(op))?;
    }
    for thread in &program.threads {
        out.write_all(&thread.to_le_bytes())?;
    }
    Ok(())
}

/// # Errors
/// Where `input` cannot be read, or holds no program, or one whose calls contradict one another.
pub fn read(input: &mut impl Read) -> anyhow::Result<Program> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).context("the replay program cannot be read; run the command again")?;
    let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("chunks of 8")));
    let header: Vec<u64> = words.by_ref().take(HEADER).collect();
    let [magic, slots, lives, ops, leftovers, peak_at, peak_live_bytes, total_bytes, empty_blocks] = header[..] else {
        anyhow::bail!("the replay program is cut short; run the command again");
    };
    let body = size(lives, 16).zip(size(ops, OP_BYTES as u64 + 4)).zip(size(leftovers, OP_BYTES as u64));
    let expected = body.and_then(|((a, b), c)| a.checked_add(b)?.checked_add(c)?.checked_add(HEADER as u64 * 8));
    let whole = magic == MAGIC && slots <= u32::MAX.into() && expected == Some(bytes.len() as u64);
    ensure!(whole, "this is no replay program of this lab; run the command again");

    let lives: Vec<Life> =
        iter::from_fn(|| Some(Life { born: words.next()?, ends: words.next()? != 0 })).take(lives as usize).collect();
    let (records, threads) = bytes[(HEADER + lives.len() * 2) * 8..].split_at((ops + leftovers) as usize * OP_BYTES);
    let (ops, leftovers) = records.split_at(ops as usize * OP_BYTES);
    let threads = threads.chunks_exact(4).map(|thread| u32::from_le_bytes(thread.try_into().expect("chunks of 4")));
    let program = Program {
        slots: slots as u32,
        ops: ops.chunks_exact(OP_BYTES).map(op_from_bytes).collect(),
        threads: threads.collect(),
        lives,
        leftovers: leftovers.chunks_exact(OP_BYTES).map(op_from_bytes).collect(),
        peak_at,
        peak_live_bytes,
        total_bytes,
        empty_blocks,
    };
    program.validate()?;
    Ok(program)
}

fn size(count: u64, each: u64) -> Option<u64> {
    count.checked_mul(each)
}

fn op_to_bytes(op: &Op) -> [u8; OP_BYTES] {
    let mut bytes = [0; OP_BYTES];
    bytes[..8].copy_from_slice(&op.len.to_le_bytes());
    bytes[8..16].copy_from_slice(&op.old_len.to_le_bytes());
    bytes[16..20].copy_from_slice(&op.slot.to_le_bytes());
    bytes[20] = op.call as u8;
    bytes[21] = op.align_log2;
    bytes
}

fn op_from_bytes(bytes: &[u8]) -> Op {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let call = match bytes[20] {
        0 => Call::Alloc,
        1 => Call::AllocZeroed,
        2 => Call::Realloc,
        _ => Call::Free, // An unknown number fails the validation that follows, unless it fits.
    };
    let slot = u32::from_le_bytes(bytes[16..20].try_into().expect("4 bytes"));
    Op { len: word(0), old_len: word(8), slot, call, align_log2: bytes[21], sampled: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Program {
        let op = |call, len, old_len| Op { len, old_len, slot: 0, call, align_log2: 3, sampled: false };
        Program {
            slots: 1,
            ops: vec![op(Call::AllocZeroed, 9, 0), op(Call::Realloc, 70, 9)],
            threads: vec![0, 1],
            lives: vec![Life { born: 0, ends: false }, Life { born: 1, ends: true }],
            leftovers: vec![op(Call::Free, 0, 70)],
            peak_at: 1,
            peak_live_bytes: 70,
            total_bytes: 79,
            empty_blocks: 2,
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut image = Vec::new();
        write(&sample(), &mut image).unwrap();
        assert_eq!(read(&mut &image[..]).unwrap(), sample());
    }

    #[test]
    fn a_program_cut_short_or_bent_is_refused_at_every_byte() {
        let mut image = Vec::new();
        write(&sample(), &mut image).unwrap();
        for end in 0..image.len() {
            assert!(read(&mut &image[..end]).is_err(), "{end} bytes");
        }
        for at in 0..image.len() {
            let mut bent = image.clone();
            bent[at] ^= 0x80;
            // Figures may change unnoticed; calls that no longer fit may not.
            if let Ok(program) = read(&mut &bent[..]) {
                program.validate().unwrap();
            }
        }
    }
}
