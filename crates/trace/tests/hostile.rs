//! No file makes the reader panic, take memory without measure, or give other events than were written.
//!
//! The short hunts of every test run are the same each time; `common/fuzz.rs` says how to hunt longer.

#[path = "common/mod.rs"]
mod common;
#[path = "common/forge.rs"]
mod forge;
#[path = "common/fuzz.rs"]
mod fuzz;
#[path = "common/measure.rs"]
mod measure;

use common::{Random, valid_events};
use fuzz::{corpus, hunt};
use terrace_trace::{Event, Fault, Header, Reader, Summary, TraceError, Writer, format};

#[global_allocator]
static COUNTING: measure::Counting = measure::Counting;

/// Bytes that a reader may take for any file, and for each byte of it.
const ROOM: usize = 3 << 20;
const ROOM_EACH: usize = 64;

/// What a reader makes of `bytes`: the events before the first error, and whether it saw the end.
fn outcome(bytes: &[u8]) -> (Vec<Event>, bool) {
    let reader = match Reader::from_bytes(bytes.to_vec()) {
        Ok(reader) => reader,
        Err(error) => {
            assert_told(&error);
            return (Vec::new(), false);
        }
    };
    let mut events = Vec::new();
    let mut whole = !reader.truncated();
    for event in reader.events() {
        match event {
            Ok(event) => events.push(event),
            Err(error) => {
                assert_told(&error);
                whole = false;
            }
        }
    }
    assert!(!whole || events.len() as u64 == reader.len());
    (events, whole)
}

/// An error is one line that says where.
fn assert_told(error: &TraceError) {
    let says = error.to_string();
    assert!(says.contains("at byte ") && !says.contains('\n'), "{says}");
}

/// Reads `bytes` in every way.
fn survive(bytes: &[u8]) {
    let peak = measure::peak_of(|| {
        if let Ok(reader) = Reader::from_bytes(bytes.to_vec()) {
            let mut stream = reader.stream();
            while let Ok(Some(_)) = stream.next_frame() {}
        }
    });
    assert!(peak <= ROOM + ROOM_EACH * bytes.len(), "{peak} bytes for {} of the file", bytes.len());
    let (events, _) = outcome(bytes);
    let Ok(reader) = Reader::from_bytes(bytes.to_vec()) else { return };
    let mut apart = Vec::new();
    for number in 0..reader.frames().len() {
        let _ = reader.decode_frame(number, &mut apart);
    }
    let sum = Summary::of(events.iter().copied().map(Ok::<_, TraceError>)).unwrap();
    assert!(sum.events <= events.len() as u64);
    if let Ok(streamed) = Summary::of_stream(reader.stream()) {
        assert_eq!(streamed, sum);
    }
}

fn small_trace() -> (Vec<Event>, Vec<u8>) {
    let mut random = Random(7);
    let words: Vec<u64> = (0..60).map(|_| random.next()).collect();
    let events = valid_events(&words, 1);
    let header = Header { program: vec!["ls".to_owned()], labels: vec!["all".to_owned()], ..Header::default() };
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for (place, &event) in events.iter().enumerate() {
        writer.push(event).unwrap();
        if place == events.len() / 2 {
            writer.flush().unwrap();
        }
    }
    (events, writer.finish().unwrap())
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let (events, whole) = small_trace();
    assert_eq!(outcome(&whole), (events.clone(), true));
    for bit in 0..whole.len() * 8 {
        let mut file = whole.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        let (read, complete) = outcome(&file);
        assert!(!complete, "bit {bit}: nobody noticed");
        assert!(events.starts_with(&read), "bit {bit}: other events than were written");
    }
}

#[test]
fn a_flipped_bit_under_right_checksums_is_survived() {
    let (_, whole) = small_trace();
    for bit in 0..whole.len() * 8 {
        let mut file = whole.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        forge::mend(&mut file);
        survive(&file);
    }
}

#[test]
fn a_cut_under_right_checksums_is_survived() {
    let (_, whole) = small_trace();
    for cut in 0..whole.len() {
        let mut file = whole[..cut].to_vec();
        forge::mend(&mut file);
        survive(&file);
    }
}

#[test]
fn the_corpus_is_survived() {
    for file in corpus("read").into_iter().chain(corpus("import")) {
        survive(&file);
    }
}

#[test]
fn mutated_traces_are_survived() {
    hunt("mutated_traces", &corpus("read"), 3_000, |input, random| {
        let mut file = input.to_vec();
        if random.below(4) > 0 {
            forge::mend(&mut file);
        }
        survive(&file);
    });
}

#[test]
fn mutated_events_in_a_well_made_frame_are_survived() {
    let mut raws: Vec<Vec<u8>> = corpus("events");
    raws.push((0..=255).collect());
    hunt("mutated_events", &raws, 3_000, |raw, random| {
        let events = (1 + random.below(raw.len())) as u32;
        let (blocks, threads) = (random.below(40) as u32, random.below(4) as u32);
        survive(&forge::trace_of(raw, events, blocks, threads));
    });
}

#[test]
fn a_body_that_unpacks_beyond_its_word_is_refused_unpacked() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    for raw_len in [1, 1000, format::MAX_RAW as u32, format::MAX_RAW as u32 + 1, u32::MAX] {
        let file = forge::trace_of_body(&bomb, raw_len, 1, 0, 1);
        survive(&file);
        assert_eq!(outcome(&file), (Vec::new(), false));
    }
}

/// A reader's errors for a frame of `raw` with right checksums.
fn error_of(raw: &[u8], events: u32, blocks: u32, threads: u32) -> TraceError {
    let reader = Reader::from_bytes(forge::trace_of(raw, events, blocks, threads)).unwrap();
    Summary::of_stream(reader.stream()).unwrap_err()
}

#[test]
fn events_that_cannot_happen_are_told_with_their_place() {
    // A free of the last block (0), which is not live.
    let error = error_of(&[0x46], 1, 0, 1);
    assert!(matches!(error, TraceError::Event { offset: 18, event: 1, fault: Fault::Dead(_) }), "{error}");
    assert!(error.to_string().contains("at byte 18"), "{error}");
    // An alloc of block 1, where 0 was never used; one by thread 2.
    assert!(matches!(error_of(&[0, 2, 8], 1, 2, 1), TraceError::Event { fault: Fault::Block(_), .. }));
    assert!(matches!(error_of(&[0x60, 2, 8], 1, 1, 3), TraceError::Event { fault: Fault::Thread(_), .. }));
    // Sound events, but other counts than the frame says.
    assert!(Summary::of_stream(Reader::from_bytes(forge::trace_of(&[0x40, 8], 1, 1, 1)).unwrap().stream()).is_ok());
    for (events, blocks, threads) in [(1, 2, 1), (1, 1, 2), (1, 0, 1), (2, 1, 1)] {
        assert!(matches!(error_of(&[0x40, 8], events, blocks, threads), TraceError::Damaged { offset: 18, .. }));
    }
}

#[test]
fn words_that_no_writer_writes_are_refused() {
    let sound = |raw: &[u8]| outcome(&forge::trace_of(raw, 1, 0, 1)).0.len() == 1;
    assert!(sound(&[14]), "a free of null");
    for word in 0..=255u8 {
        // Where nothing is live, only these can happen.
        let can = matches!(word, 11 | 12 | 14 | 15 | 16);
        assert_eq!(sound(&[word]), can, "{word}");
    }
    assert!(sound(&[17, 5]) && !sound(&[17]) && !sound(&[0x57, 5]) && !sound(&[0x91, 5]) && !sound(&[14, 0]));
}
