//! Any bytes as a trace, with and without right checksums.
#![no_main]

#[path = "../../tests/common/forge.rs"]
mod forge;

use libfuzzer_sys::fuzz_target;
use terrace_trace::{Reader, Summary};

fuzz_target!(|bytes: &[u8]| {
    for mended in [false, true] {
        let mut file = bytes.to_vec();
        if mended {
            forge::mend(&mut file);
        }
        let Ok(reader) = Reader::from_bytes(file) else { continue };
        let one_by_one = Summary::of(reader.events());
        if let Ok(sum) = Summary::of_stream(reader.stream()) {
            assert_eq!(one_by_one.unwrap(), sum);
        }
    }
});
