//! No text and no archive makes the importer panic or take memory without measure, and a malformed line is
//! told with its number and its byte offset.

mod common;
#[path = "common/fuzz.rs"]
mod fuzz;
#[path = "common/measure.rs"]
mod measure;

use std::io::{Cursor, Write};

use common::Random;
use fuzz::{corpus, hunt};
use terrace_trace::{Header, ImportReport, Reader, Summary, TraceError, Writer, detect, import_from};
use zip::write::{SimpleFileOptions, ZipWriter};

#[global_allocator]
static COUNTING: measure::Counting = measure::Counting;

/// Bytes that an import may take for any file, and for each byte of it.
const ROOM: usize = 4 << 20;
const ROOM_EACH: usize = 64;

fn imported(bytes: &[u8]) -> Result<ImportReport, TraceError> {
    let mut writer = Writer::new(Vec::new(), Header::default()).unwrap();
    let report = import_from(Cursor::new(bytes), |_| {}, &mut writer);
    let reader = Reader::from_bytes(writer.finish().unwrap()).unwrap();
    let sum = Summary::of_stream(reader.stream()).unwrap();
    if let Ok(report) = &report {
        assert_eq!((sum.events, sum.unknown_frees), (report.lines, report.invalid_frees));
    }
    report
}

fn survive(bytes: &[u8]) {
    let mut outcome = None;
    let peak = measure::peak_of(|| outcome = Some(imported(bytes)));
    assert!(peak <= ROOM + ROOM_EACH * bytes.len(), "{peak} bytes for {} of the file", bytes.len());
    if let Some(Err(error)) = outcome {
        assert_told(&error);
    }
}

/// An error is one line that says where, or what the system said.
fn assert_told(error: &TraceError) {
    let says = error.to_string();
    assert!(!says.contains('\n'), "{says:?}");
    assert!(says.contains("byte ") || matches!(error, TraceError::Io { .. }), "{says}");
}

#[test]
fn the_corpus_is_survived() {
    for file in corpus("import").into_iter().chain(corpus("read")) {
        survive(&file);
    }
}

#[test]
fn mutated_texts_and_archives_are_survived() {
    hunt("mutated_texts", &corpus("import"), 3_000, |input, _| survive(input));
}

#[test]
fn mutated_texts_in_a_well_made_archive_are_survived() {
    let texts: Vec<Vec<u8>> = corpus("import").into_iter().filter(|file| !file.starts_with(b"PK")).collect();
    hunt("mutated_members", &texts, 500, |text, _| survive(&zipped(&[text])));
}

#[test]
fn an_archive_cut_or_flipped_anywhere_is_survived() {
    let whole = zipped(&[b"1: malloc 0x10 5\n1: free 0x10\n"]);
    assert_eq!(imported(&whole).unwrap().lines, 2);
    for cut in 0..whole.len() {
        survive(&whole[..cut]);
    }
    for bit in 0..whole.len() * 8 {
        let mut file = whole.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        survive(&file);
    }
}

fn zipped(texts: &[&[u8]]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (number, text) in texts.iter().enumerate() {
        archive.start_file(format!("{number}"), SimpleFileOptions::default()).unwrap();
        archive.write_all(text).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn a_malformed_line_is_told_with_its_number_and_offset() {
    let first = "1: malloc 0x10 5\n";
    for wrong in [
        "",
        "1",
        "1:",
        "1 malloc 0x20 5",
        "x: malloc 0x20 5",
        "1: malloc 20 5",
        "1: malloc 0x20",
        "1: malloc 0x20 -5",
        "1: malloc 0x20 5.5",
        "1: malloc 0x20 18446744073709551616",
        "1: calloc 0x20 5",
        "1: calloc 0x20 4294967296 4294967296",
        "1: memalign 0x20 16",
        "1: realloc 0x20 16 5",
        "1: free 0x20 5 6 7",
        "1: free",
        "1: mmap 0x20 4096",
        "1: thread_done",
        "Alloc(5),",
        "1: malloc 0x\u{e9} 5",
    ] {
        for line_end in ["\n", "\r\n"] {
            let text = format!("{first}{wrong}{line_end}{first}");
            let error = imported(text.as_bytes()).unwrap_err();
            assert!(matches!(error, TraceError::Line { line: 2, offset: 17, .. }), "{wrong:?}: {error}");
            assert!(error.to_string().contains("line 2, at byte 17 of the text"), "{error}");
        }
    }
    for wrong in ["Alloc()", "Alloc(),", "Alloc(-1),", "Alloc(1)", "Free(x),", "Realloc(1),", "1: free 0x0"] {
        let error = imported(format!("Alloc(1),\n{wrong}\n").as_bytes()).unwrap_err();
        assert!(matches!(error, TraceError::Line { line: 2, offset: 10, .. }), "{wrong:?}: {error}");
    }
}

#[test]
fn newer_recordings_and_other_line_ends_are_read() {
    let text = "1: malloc 0x10 5 100 200\r\n1: free 0x10 300 400\r\n1: thread_done 0x0 500\r\n2: free 0x0";
    assert_eq!(imported(text.as_bytes()).unwrap().lines, 4);
    assert_eq!(imported(b"Alloc(1),\r\nFree(0),").unwrap().lines, 2);
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let mut text = b"1: malloc 0x".to_vec();
    text.resize(8 << 20, b'0');
    let mut error = None;
    let peak = measure::peak_of(|| error = imported(&text).err());
    assert!(matches!(error, Some(TraceError::Line { line: 1, offset: 0, .. })));
    assert!(peak < ROOM, "{peak}");
}

#[test]
fn an_archive_that_unpacks_without_measure_is_stopped() {
    let line = b"1: free 0x0\n";
    let bomb = zipped(&[&line.repeat((8 << 20) / line.len())]);
    assert!(bomb.len() < 1 << 20);
    let error = imported(&bomb).unwrap_err();
    assert!(matches!(error, TraceError::Archive { offset, .. } if offset < 8 << 20), "{error}");
    assert!(error.to_string().contains("200 times its size"), "{error}");
}

#[test]
fn what_cannot_be_imported_is_told_apart() {
    let error = |bytes: &[u8]| imported(bytes).unwrap_err().to_string();
    assert!(error(b"").contains("empty"));
    assert!(error(&zipped(&[b""])).contains("empty"));
    assert!(error(&zipped(&[])).contains("0 files"));
    assert!(error(&zipped(&[b"Alloc(1),\n", b"Alloc(1),\n"])).contains("2 files"));
    assert!(error(b"PK\x03\x04 and nothing more").contains("zip archive"));
    assert!(error(b"\x1f\x8b\x08\x00").contains("gunzip"));
    assert!(error(b"\xfd7zXZ\x00").contains("xz -d"));
    assert!(error(b"#!/bin/sh\n").contains("neither"));
    assert!(error(b"123456").contains("neither"));
    let trace = Writer::new(Vec::new(), Header::default()).unwrap().finish().unwrap();
    assert!(error(&trace).contains("already"));
    let folder = tempfile::tempdir().unwrap();
    assert!(detect(folder.path()).unwrap_err().to_string().contains("name a file"));
    assert!(detect(&folder.path().join("none")).unwrap_err().to_string().contains("check the path"));
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_rounded_up_and_counted() {
    let report = imported(b"1: memalign 0x10 24 5\n1: memalign 0x20 0 5\n1: memalign 0x40 32 5\n").unwrap();
    assert_eq!((report.odd_aligns, report.max_align), (2, 32));
    let report = imported(b"1: memalign 0x10 18446744073709551615 5\n").unwrap();
    assert_eq!((report.odd_aligns, report.max_align), (1, u64::MAX));
}

#[test]
fn any_lines_of_the_format_are_imported() {
    hunt("random_lines", &[Vec::new()], 300, |_, random| {
        let text: String = (0..random.below(60)).map(|_| line(random)).collect();
        if !text.is_empty() {
            let report = imported(text.as_bytes()).unwrap();
            assert_eq!((report.lines, report.bytes), (text.lines().count() as u64, text.len() as u64));
        }
    });
}

/// A random line over few addresses, so that they overlap, end twice and fail.
fn line(random: &mut Random) -> String {
    let tid = random.below(3);
    let mut pointer = || 16 * random.below(5);
    let (new, old) = (pointer(), pointer());
    let size = random.next() >> random.below(64);
    match random.below(6) {
        0 => format!("{tid}: malloc {new:#x} {size}\n"),
        1 => format!("{tid}: calloc {new:#x} {} {}\n", size >> 40, random.below(99)),
        2 => format!("{tid}: memalign {new:#x} {} {size} 1 2\n", 1u64 << random.below(64)),
        3 => format!("{tid}: realloc {new:#x} {old:#x} {}\n", size * random.below(2) as u64),
        4 => format!("{tid}: free {new:#x} 3 4\n"),
        _ => format!("{tid}: thread_done 0x0\n"),
    }
}
