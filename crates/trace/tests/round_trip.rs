//! What was written is read: events, header, frames; and a trace that was cut off is read up to its last whole frame.

mod common;

use std::io::{self, Write};

use common::{Random, valid_events};
use proptest::prelude::*;
use terrace_trace::{
    AllocKind, BlockId, Event, Fault, FreeKind, Header, Machine, Op, Reader, Source, Summary, ThreadId, TraceError,
    Writer, format,
};

fn header() -> Header {
    Header {
        program: vec!["cargo".to_owned(), "build".to_owned(), "--name=\u{e9}".to_owned(), String::new()],
        machine: Machine { arch: "x86_64".to_owned(), os: "linux".to_owned(), cpus: 2, page_size: 4096 },
        source: Source::Imported { format: "replay".to_owned() },
        labels: vec!["parse".to_owned(), "link".to_owned()],
        notes: vec!["slow disk".to_owned()],
    }
}

fn written(events: &[Event], flush_every: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header()).unwrap();
    for (place, &event) in events.iter().enumerate() {
        writer.push(event).unwrap();
        if place % flush_every == flush_every - 1 {
            writer.flush().unwrap();
        }
    }
    assert_eq!(writer.events(), events.len() as u64);
    writer.finish().unwrap()
}

fn read(reader: &Reader) -> Vec<Event> {
    reader.events().collect::<Result<_, _>>().unwrap()
}

fn many_events(words: usize) -> Vec<Event> {
    let mut random = Random(4);
    let words: Vec<u64> = (0..words).map(|_| random.next()).collect();
    valid_events(&words, 2)
}

proptest! {
    #[test]
    fn any_valid_events_come_back(words in prop::collection::vec(any::<u64>(), 0..400), flush_every in 1usize..500) {
        let events = valid_events(&words, 2);
        let reader = Reader::from_bytes(written(&events, flush_every)).unwrap();
        prop_assert_eq!(reader.header(), &header());
        prop_assert!(!reader.truncated());
        prop_assert_eq!(reader.len(), events.len() as u64);
        prop_assert_eq!(&read(&reader), &events);
        let mut by_frame = Vec::new();
        for number in 0..reader.frames().len() {
            reader.decode_frame(number, &mut by_frame).unwrap();
        }
        prop_assert_eq!(&by_frame, &events);
        let summed = Summary::of(events.into_iter().map(Ok::<_, TraceError>)).unwrap();
        prop_assert_eq!(Summary::of_stream(reader.stream()).unwrap(), summed);
    }

    #[test]
    fn any_header_comes_back(
        program in prop::collection::vec(any::<String>(), 0..5),
        labels in prop::collection::vec(any::<String>(), 0..5),
        notes in prop::collection::vec(any::<String>(), 0..5),
        arch: String,
        format: String,
        cpus: u32,
        page_size: u64,
        logged: bool,
    ) {
        let source = if logged { Source::Logged } else { Source::Imported { format } };
        let machine = Machine { os: arch.clone(), arch, cpus, page_size };
        let header = Header { program, machine, source, labels, notes };
        let file = Writer::new(Vec::new(), header.clone()).unwrap().finish().unwrap();
        let reader = Reader::from_bytes(file).unwrap();
        prop_assert_eq!(reader.header(), &header);
    }
}

#[test]
fn a_long_trace_has_full_frames_and_small_ones_of_large_events() {
    let events = many_events(300_000);
    let reader = Reader::from_bytes(written(&events, usize::MAX)).unwrap();
    assert_eq!(read(&reader), events);
    assert_eq!(reader.frames()[0].events, format::MAX_EVENTS);
    let large = |block| Op::Alloc { block: BlockId(block), len: u64::MAX, align_log2: 4, kind: AllocKind::Plain };
    let events: Vec<Event> = (0..200_000).map(|block| Event { thread: ThreadId(block), op: large(block) }).collect();
    let reader = Reader::from_bytes(written(&events, usize::MAX)).unwrap();
    assert_eq!(read(&reader), events);
    assert!(reader.frames().iter().all(|frame| frame.events <= format::MAX_EVENTS));
}

#[test]
fn a_trace_cut_anywhere_is_read_up_to_its_last_whole_frame() {
    let events = many_events(400);
    let whole = written(&events, 50);
    let full = Reader::from_bytes(whole.clone()).unwrap();
    let first = full.frames()[0].offset as usize;
    for cut in 0..whole.len() {
        let reader = Reader::from_bytes(whole[..cut].to_vec());
        if cut < first {
            assert!(reader.is_err(), "cut at {cut}, within the header");
            continue;
        }
        let reader = reader.unwrap();
        assert!(reader.truncated(), "cut at {cut}");
        let expected = full.frames().iter().enumerate().filter(|(place, _)| {
            let end = full.frames().get(place + 1).map_or(index_offset(&whole), |next| next.offset as usize);
            end <= cut
        });
        let expected: usize = expected.map(|(_, frame)| frame.events as usize).sum();
        assert_eq!(read(&reader), events[..expected], "cut at {cut}");
    }
}

fn index_offset(file: &[u8]) -> usize {
    let at = file.len() - 16;
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize
}

#[test]
fn a_file_made_longer_but_never_written_counts_as_cut_off() {
    let events = many_events(100);
    let whole = written(&events, 50);
    let mut file = whole[..index_offset(&whole)].to_vec();
    file.resize(file.len() + 5000, 0);
    let reader = Reader::from_bytes(file).unwrap();
    assert!(reader.truncated());
    assert_eq!(read(&reader), events);
}

#[test]
fn a_writer_that_is_dropped_leaves_what_it_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dropped.trace");
    let events = many_events(100);
    let mut writer = Writer::create(&path, header()).unwrap();
    for &event in &events[..60] {
        writer.push(event).unwrap();
    }
    writer.flush().unwrap();
    for &event in &events[60..] {
        writer.push(event).unwrap();
    }
    drop(writer);
    let reader = Reader::open(&path).unwrap();
    assert!(reader.truncated());
    assert_eq!(read(&reader), events[..60]);
}

#[test]
fn damage_behind_whole_frames_is_told_after_their_events() {
    let events = many_events(100);
    let whole = written(&events, 50);
    let mut file = whole[..index_offset(&whole)].to_vec();
    let end = file.len();
    file.extend([0x55; 100]);
    let reader = Reader::from_bytes(file).unwrap();
    let mut read = reader.events();
    assert_eq!(read.by_ref().take(events.len()).collect::<Result<Vec<_>, _>>().unwrap(), events);
    let error = read.next().unwrap().unwrap_err();
    assert!(matches!(error, TraceError::Damaged { offset, .. } if offset == end as u64), "{error}");
    assert!(read.next().is_none() && read.next().is_none());
}

#[test]
fn an_event_that_cannot_happen_is_refused_by_the_writer() {
    let mut writer = Writer::new(Vec::new(), header()).unwrap();
    let free = Event { thread: ThreadId(0), op: Op::Free { block: BlockId(0), kind: FreeKind::Plain } };
    let error = writer.push(free).unwrap_err();
    assert!(matches!(error, TraceError::Event { event: 1, fault: Fault::Dead(BlockId(0)), .. }), "{error}");
    assert!(matches!(writer.push(free), Err(TraceError::WriterFailed { .. })));
    assert!(writer.finish().is_err());
}

/// Takes `room` bytes, then the disk is full.
struct SmallDisk {
    room: usize,
    written: Vec<u8>,
}

impl Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.written.len());
        self.written.extend(&bytes[..fits]);
        if fits == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(fits) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_said_once_and_nothing_is_written_behind_the_hole() {
    let mut disk = SmallDisk { room: 2000, written: Vec::new() };
    let mut writer = Writer::new(&mut disk, header()).unwrap();
    let mut errors = Vec::new();
    for event in many_events(2000) {
        errors.extend(writer.push(event).and_then(|()| writer.flush()).err());
    }
    assert!(errors[0].to_string().contains("free some space"), "{}", errors[0]);
    assert!(errors[1..].iter().all(|error| matches!(error, TraceError::WriterFailed { .. })));
    drop(writer);
    let reader = Reader::from_bytes(disk.written).unwrap();
    assert!(reader.truncated() && !reader.is_empty());
    read(&reader);
}

#[test]
fn what_is_no_trace_is_told_apart() {
    let error = |bytes: &[u8]| Reader::from_bytes(bytes.to_vec()).err().unwrap().to_string();
    assert!(error(b"").contains("empty"));
    assert!(error(b"PK\x03\x04....").contains("zip"));
    assert!(error(b"202: malloc 0xb4827400 1024\n").contains("text"));
    assert!(error(b"TRCE\n\x1a\n").contains("line ends"));
    let mut newer = written(&[], 1);
    newer[8] = 9;
    assert!(error(&newer).contains("version 9"), "{}", error(&newer));
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| Reader::open(path).err().unwrap().to_string();
    assert!(open(folder.path()).contains("name a file"));
    assert!(open(&folder.path().join("none")).contains("check the path"));
}

#[test]
fn a_header_beyond_all_measure_is_refused() {
    let long = Header { notes: vec!["x".repeat(format::MAX_HEADER)], ..Header::default() };
    assert!(matches!(Writer::new(Vec::new(), long), Err(TraceError::LongHeader { .. })));
}
