//! Traces that no writer writes, but whose checksums are right: they get past the first gate.

use terrace_trace::format::{END, FRAME, INDEX, MAGIC, VERSION};

/// A trace of one frame with the body `raw`, said to hold `events` events, `blocks` names and `threads` threads.
pub fn trace_of(raw: &[u8], events: u32, blocks: u32, threads: u32) -> Vec<u8> {
    let body = zstd::bulk::compress(raw, 1).unwrap();
    trace_of_body(&body, raw.len() as u32, events, blocks, threads)
}

/// As [`trace_of`], with a packed body.
pub fn trace_of_body(body: &[u8], raw_len: u32, events: u32, blocks: u32, threads: u32) -> Vec<u8> {
    let mut file = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4], &[0; 4], &FRAME].concat();
    for word in [body.len() as u32, raw_len, events, blocks, threads, 0, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(body);
    mend(&mut file);
    file
}

/// Makes the checksums right wherever the lengths still lead from one to the next.
pub fn mend(file: &mut [u8]) {
    let word = |file: &[u8], at: usize| {
        file.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()) as usize)
    };
    let Some(mut at) = word(file, 10).and_then(|fields| fields.checked_add(14)) else { return };
    set(file, at, |file| crc32fast::hash(&file[..at]));
    at += 4;
    while file.get(at..at + 4) == Some(&FRAME) {
        let Some(end) = word(file, at + 4).map(|body| at + 36 + body).filter(|end| *end <= file.len()) else { return };
        let covered = [&file[at..at + 32], &file[at + 36..end]].concat();
        set(file, at + 32, |_| crc32fast::hash(&covered));
        at = end;
    }
    if file.get(at..at + 4) == Some(&INDEX) && file.ends_with(&END) && file.len() >= at + 28 {
        let end = file.len() - 20;
        set(file, end, |file| crc32fast::hash(&file[at..end]));
    }
}

fn set(file: &mut [u8], at: usize, crc: impl FnOnce(&[u8]) -> u32) {
    if at.checked_add(4).is_some_and(|end| end <= file.len()) {
        let crc = crc(file).to_le_bytes();
        file[at..at + 4].copy_from_slice(&crc);
    }
}
