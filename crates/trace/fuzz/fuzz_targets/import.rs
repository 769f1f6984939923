//! Any bytes as a text trace or an archive of one.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use terrace_trace::{Header, Reader, Summary, Writer, import_from};

fuzz_target!(|bytes: &[u8]| {
    let mut writer = Writer::new(Vec::new(), Header::default()).unwrap();
    let imported = import_from(Cursor::new(bytes), |_| {}, &mut writer);
    let reader = Reader::from_bytes(writer.finish().unwrap()).unwrap();
    let sum = Summary::of_stream(reader.stream()).unwrap();
    if let Ok(report) = imported {
        assert_eq!((sum.events, sum.unknown_frees), (report.lines, report.invalid_frees));
    }
});
