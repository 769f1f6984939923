//! A small deterministic fuzzer: mutates a corpus, with a seed, for a number of inputs or for a time.
//!
//! `TERRACE_FUZZ_SECONDS=600 cargo test --release -p terrace-trace --test hostile` hunts for ten minutes a test.
//! An input that fails is kept under `target/tmp`, and its path printed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Random;

/// The files of `tests/corpus/<of>`, in the order of their names.
pub fn corpus(of: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(of);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus is gone");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Gives mutations of `seeds` to `survive`: `inputs` of them, or for as long as `TERRACE_FUZZ_SECONDS` says.
pub fn hunt(name: &str, seeds: &[Vec<u8>], inputs: u64, mut survive: impl FnMut(&[u8], &mut Random)) {
    let seconds = std::env::var("TERRACE_FUZZ_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let start = Instant::now();
    // A long hunt goes where the short one of every test run does not.
    let mut random = Random(seconds.unwrap_or(0));
    let mut done = 0u64;
    let more = |done: u64| match seconds {
        Some(seconds) => start.elapsed() < Duration::from_secs(seconds),
        None => done < inputs,
    };
    while more(done) {
        let input = mutation(seeds, &mut random);
        let kept = Keep { name, input: &input };
        survive(&input, &mut random);
        std::mem::forget(kept);
        done += 1;
    }
    eprintln!("{name}: {done} inputs survived");
}

/// Keeps an input if the test panics.
struct Keep<'a> {
    name: &'a str,
    input: &'a [u8],
}

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.failed", self.name));
        let kept = std::fs::write(&path, self.input);
        eprintln!("{}: the input that failed: {} ({kept:?})", self.name, path.display());
    }
}

/// One of the seeds, altered in a few places.
fn mutation(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        alter(&mut bytes, seeds, random);
    }
    bytes
}

fn alter(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xffff, u32::MAX as u64, i64::MAX as u64, u64::MAX];
    let (at, until) = random.range(bytes.len());
    match random.below(9) {
        0 if !bytes.is_empty() => {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1 << random.below(8);
        }
        1 if !bytes.is_empty() => {
            let at = at.min(bytes.len() - 1);
            bytes[at] = random.next() as u8;
        }
        2 => drop(bytes.drain(at..until)),
        3 => bytes.truncate(until),
        4 => {
            let part = bytes[at..until].to_vec();
            bytes.splice(at..at, part);
        }
        5 => {
            let part: Vec<u8> = (0..random.below(20)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, part);
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            let (from, to) = random.range(other.len());
            bytes.splice(at..until, other[from..to].iter().copied());
        }
        _ => {
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            for (place, byte) in bytes[at..].iter_mut().zip(&edge[..[1, 2, 4, 8][random.below(4)]]) {
                *place = *byte;
            }
        }
    }
    bytes.truncate(1 << 16);
}

impl Random {
    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit.max(1) as u64)) as usize
    }

    /// A range within `len`, mostly short.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let at = self.below(len + 1);
        let most = 1 << self.below(12);
        (at, at + self.below((len - at).min(most) + 1))
    }
}
