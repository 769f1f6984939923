//! Any bytes as the unpacked body of a well-made frame.
#![no_main]

#[path = "../../tests/common/forge.rs"]
mod forge;

use libfuzzer_sys::fuzz_target;
use terrace_trace::{Reader, Summary, Writer};

fuzz_target!(|bytes: &[u8]| {
    let [events, blocks, threads, raw @ ..] = bytes else { return };
    let file = forge::trace_of(raw, u32::from(*events), u32::from(*blocks), u32::from(*threads));
    let Ok(reader) = Reader::from_bytes(file) else { return };
    let _ = Summary::of_stream(reader.stream());
    // What was read can be written, and is read the same.
    let Ok(events) = reader.events().collect::<Result<Vec<_>, _>>() else { return };
    let mut writer = Writer::new(Vec::new(), reader.header().clone()).unwrap();
    events.iter().for_each(|&event| writer.push(event).unwrap());
    let again = Reader::from_bytes(writer.finish().unwrap()).unwrap();
    assert_eq!(again.events().collect::<Result<Vec<_>, _>>().unwrap(), events);
});
