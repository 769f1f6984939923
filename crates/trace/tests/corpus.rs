//! Writes the seeds of the corpus anew; run by hand after a change of the format:
//! `cargo test -p terrace-trace --test corpus -- --ignored`. Beside them, as `found_NN`, lie those 61 of each libFuzzer
//! target's finds that together reach the most edges, picked greedily; what it finds in minutes need not be kept.

mod common;

use std::io::{Cursor, Write};
use std::path::Path;

use common::{Random, valid_events};
use terrace_trace::{Event, Header, Machine, Op, Reader, Source, ThreadId, Writer};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

const REPLAY: &str = "11: malloc 0x7f0010 640\n11: calloc 0x7f0400 32 8\n\
    12: memalign 0x7f0800 64 104 5 6\n11: realloc 0x7f0c00 0x7f0010 150\n12: free 0x7f0800\n\
    12: free 0x0\n11: malloc 0x0 77\n12: thread_done 0x0\n11: realloc 0x0 0x7f0c00 0\n11: free 0x5\n";
const WEE: &str = "Alloc(552),\nAlloc(0),\nFree(0),\nFree(0),\nAlloc(18446744073709551615),\nFree(2),\n";

fn save(of: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(of);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn trace(words: usize, seed: u64, frames: usize, header: Header) -> Vec<u8> {
    let mut random = Random(seed);
    let words: Vec<u64> = (0..words).map(|_| random.next()).collect();
    let events = valid_events(&words, header.labels.len() as u32);
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for part in events.chunks(events.len().div_ceil(frames).max(1)) {
        part.iter().for_each(|&event| writer.push(event).unwrap());
        writer.flush().unwrap();
    }
    writer.finish().unwrap()
}

/// The unpacked bodies of a trace's frames.
fn bodies(file: &[u8]) -> Vec<Vec<u8>> {
    let reader = Reader::from_bytes(file.to_vec()).unwrap();
    let body = |frame: &terrace_trace::format::Frame| {
        let start = frame.offset as usize;
        let word = |at: usize| u32::from_le_bytes(file[start + at..start + at + 4].try_into().unwrap()) as usize;
        zstd::bulk::decompress(&file[start + 36..start + 36 + word(4)], word(8)).unwrap()
    };
    reader.frames().iter().map(body).collect()
}

fn zipped(name: &str, text: &str, method: CompressionMethod, files: usize) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..files {
        archive.start_file(format!("{number}{name}"), SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_the_seeds() {
    let full = Header {
        program: vec!["cargo".to_owned(), "metadata".to_owned()],
        machine: Machine { arch: "x86_64".to_owned(), os: "linux".to_owned(), cpus: 2, page_size: 4096 },
        source: Source::Imported { format: "wee".to_owned() },
        labels: vec!["begin".to_owned(), "end".to_owned()],
        notes: vec!["a note".to_owned()],
    };
    let all = trace(120, 1, 3, full);
    save("read", "every_kind.trace", &all);
    save("read", "cut.trace", &all[..all.len() * 3 / 4]);
    save("read", "without_index.trace", &all[..all.len() - 16]);
    save("read", "empty.trace", &trace(0, 0, 1, Header::default()));
    save("read", "many_frames.trace", &trace(40, 2, 40, Header::default()));
    let start = Event { thread: ThreadId(0), op: Op::ThreadStart };
    let mut one = Writer::new(Vec::new(), Header { source: Source::Logged, ..Header::default() }).unwrap();
    one.push(start).unwrap();
    save("read", "one_event.trace", &one.finish().unwrap());
    for (number, body) in bodies(&all).iter().enumerate() {
        save("events", &format!("frame_{number}.events"), body);
    }
    save("import", "replay.txt", REPLAY.as_bytes());
    save("import", "wee.txt", WEE.as_bytes());
    save("import", "replay.zip", &zipped("r.txt", REPLAY, CompressionMethod::Deflated, 1));
    save("import", "wee_stored.zip", &zipped("w.trace", WEE, CompressionMethod::Stored, 1));
    save("import", "two.zip", &zipped("w.trace", WEE, CompressionMethod::Deflated, 2));
    save("import", "none.zip", &zipped("", "", CompressionMethod::Stored, 0));
}
