//! A text's lines and where they stand.
#![forbid(unsafe_code)]

use std::io::{BufRead, Read};

use super::{Progress, text_error};
use crate::TraceError;

/// The most bytes of a line; the longest that a format knows has under 150.
const MAX_LINE: usize = 500;
/// How many lines between two reports of progress.
const EVERY: u64 = 1 << 14;

/// Reads lines; `progress` hears how far.
pub(super) struct Lines<'a, P> {
    text: &'a mut dyn BufRead,
    progress: P,
    total: u64,
    line: Vec<u8>,
    number: u64,
    begin: u64,
    end: u64,
}

impl<'a, P: FnMut(Progress)> Lines<'a, P> {
    pub(super) fn new(text: &'a mut dyn BufRead, total: u64, progress: P) -> Self {
        Self { text, progress, total, line: Vec::new(), number: 0, begin: 0, end: 0 }
    }

    /// Goes to the next line; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, TraceError> {
        self.begin = self.end;
        self.line.clear();
        let read = self.text.take(MAX_LINE as u64).read_until(b'\n', &mut self.line).map_err(text_error)?;
        if read == 0 {
            self.report();
            return Ok(false);
        }
        self.end += read as u64;
        self.number += 1;
        if read == MAX_LINE {
            return Err(self.malformed("it is longer than any such line"));
        }
        if self.number.is_multiple_of(EVERY) {
            self.report();
        }
        Ok(true)
    }

    fn report(&mut self) {
        (self.progress)(Progress { bytes: self.end, total: self.total.max(self.end), lines: self.number });
    }
}

impl<P> Lines<'_, P> {
    /// The line, without white space around it.
    pub(super) fn line(&self) -> &[u8] {
        self.line.trim_ascii()
    }

    /// Its number, from 1: the number of lines at the end.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where it ends in the text.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Why this line cannot be imported.
    pub(super) fn malformed(&self, what: &'static str) -> TraceError {
        TraceError::Line { line: self.number, offset: self.begin, what }
    }
}

/// `bytes` as a decimal number of 64 bits.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// `bytes` as `0x` and a hexadecimal number of 64 bits.
pub(super) fn hexadecimal(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"0x")?;
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        (value < 1 << 60).then_some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_64_bits_and_nothing_else() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(hexadecimal(b"0xffffffffffffffff"), Some(u64::MAX));
        assert_eq!(hexadecimal(b"0x00000000000000000010"), Some(16));
        for wrong in [&b""[..], b"18446744073709551616", b"-1", b"+1", b"1_0", b" 1"] {
            assert_eq!(decimal(wrong), None);
        }
        for wrong in [&b"0x"[..], b"10", b"0x10000000000000000", b"0xg", b"0x-1"] {
            assert_eq!(hexadecimal(wrong), None);
        }
    }
}
