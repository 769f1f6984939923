//! What a trace says of itself: which program, on which machine, from where.
#![forbid(unsafe_code)]

use crate::format::{HEADER_START, MAGIC, MAX_HEADER, VERSION, word};
use crate::{TraceError, varint};

/// The first part of a trace file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The recorded command line, word by word; empty where nobody knows it.
    pub program: Vec<String>,
    /// Where the program ran.
    pub machine: Machine,
    /// How the trace came to be.
    pub source: Source,
    /// Names of phases; [`Op::Mark`](crate::Op::Mark) tells them by their place here.
    pub labels: Vec<String>,
    /// Anything that a reader of the trace should know.
    pub notes: Vec<String>,
}

/// Where a program ran; empty or 0 where nobody knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The architecture, as `std::env::consts::ARCH`.
    pub arch: String,
    /// The operating system, as `std::env::consts::OS`.
    pub os: String,
    /// CPUs that the program could use.
    pub cpus: u32,
    /// Bytes of a page.
    pub page_size: u64,
}

impl Machine {
    /// The machine that this runs on, whose pages have `page_size` bytes.
    pub fn this(page_size: u64) -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            os: std::env::consts::OS.to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, |cpus| cpus.get() as u32),
            page_size,
        }
    }
}

/// How a trace came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Recorded from a program's calls of `malloc` and its kin.
    #[default]
    Recorded,
    /// Imported from another format.
    Imported {
        /// Which.
        format: String,
    },
    /// Written by a logging allocator.
    Logged,
}

impl Header {
    /// The header of a trace imported from `format`; `from` says from where.
    pub fn imported(format: impl ToString, from: impl std::fmt::Display) -> Self {
        Self {
            source: Source::Imported { format: format.to_string() },
            notes: vec![format!("imported from {from}")],
            ..Self::default()
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, TraceError> {
        let mut fields = Vec::new();
        self.program.iter().for_each(|word| put(&mut fields, 1, word.as_bytes()));
        put(&mut fields, 2, self.machine.arch.as_bytes());
        put(&mut fields, 3, self.machine.os.as_bytes());
        put_number(&mut fields, 4, u64::from(self.machine.cpus));
        put_number(&mut fields, 5, self.machine.page_size);
        match &self.source {
            Source::Recorded => put(&mut fields, 6, b""),
            Source::Logged => put(&mut fields, 6, b"log"),
            Source::Imported { format } => put(&mut fields, 6, format!("import:{format}").as_bytes()),
        }
        self.labels.iter().for_each(|label| put(&mut fields, 7, label.as_bytes()));
        self.notes.iter().for_each(|note| put(&mut fields, 8, note.as_bytes()));
        if fields.len() > MAX_HEADER {
            return Err(TraceError::LongHeader { bytes: fields.len() });
        }
        let mut out = Vec::with_capacity(HEADER_START + fields.len() + 4);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((fields.len() as u32).to_le_bytes());
        out.extend(fields);
        out.extend(crc32fast::hash(&out).to_le_bytes());
        Ok(out)
    }

    /// The header at the beginning of `file`, and where the first frame begins.
    pub(crate) fn decode(file: &[u8]) -> Result<(Self, usize), TraceError> {
        const CUT: &str = "the file ends within the header";
        let damaged = |what| TraceError::Damaged { offset: 0, what };
        if !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) || file.is_empty() {
            return Err(TraceError::NotATrace { what: resemblance(file) });
        }
        if file.len() < HEADER_START {
            return Err(damaged(CUT));
        }
        let version = u16::from_le_bytes([file[8], file[9]]);
        if version != VERSION {
            return Err(TraceError::Version { found: version });
        }
        let end = HEADER_START + word(file, 10) as usize;
        if end > HEADER_START + MAX_HEADER {
            return Err(damaged("a header longer than any writer makes"));
        }
        let crc = file.get(end..end + 4).ok_or(damaged(CUT))?;
        if crc32fast::hash(&file[..end]) != word(crc, 0) {
            return Err(damaged("the header's checksum does not fit"));
        }
        let header = Self::decode_fields(&file[HEADER_START..end]).ok_or(damaged("a header field that cannot be"))?;
        Ok((header, end + 4))
    }

    fn decode_fields(fields: &[u8]) -> Option<Self> {
        let mut header = Self::default();
        let mut at = 0;
        while at < fields.len() {
            let key = varint::get(fields, &mut at)?;
            let len = usize::try_from(varint::get(fields, &mut at)?).ok()?;
            let value = fields.get(at..at.checked_add(len)?)?;
            at += len;
            match key {
                1 => header.program.push(text(value)?),
                2 => header.machine.arch = text(value)?,
                3 => header.machine.os = text(value)?,
                4 => header.machine.cpus = u32::try_from(number(value)?).ok()?,
                5 => header.machine.page_size = number(value)?,
                6 => header.source = source(text(value)?)?,
                7 => header.labels.push(text(value)?),
                8 => header.notes.push(text(value)?),
                _ => {}
            }
        }
        Some(header)
    }
}

fn put(out: &mut Vec<u8>, key: u64, value: &[u8]) {
    varint::put(out, key);
    varint::put(out, value.len() as u64);
    out.extend(value);
}

fn put_number(out: &mut Vec<u8>, key: u64, value: u64) {
    let mut bytes = Vec::new();
    varint::put(&mut bytes, value);
    put(out, key, &bytes);
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn number(bytes: &[u8]) -> Option<u64> {
    varint::get(bytes, &mut 0)
}

fn source(text: String) -> Option<Source> {
    match text.as_str() {
        "" => Some(Source::Recorded),
        "log" => Some(Source::Logged),
        text => Some(Source::Imported { format: text.strip_prefix("import:")?.to_owned() }),
    }
}

/// What a file that is no trace seems to be.
fn resemblance(file: &[u8]) -> &'static str {
    match file {
        [] => "the file is empty",
        [b'P', b'K', ..] => "it is a zip archive",
        [0x1f, 0x8b, ..] => "it is a gzip file",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is an xz file",
        _ if file.len() >= 4 && file[..4] == MAGIC[..4] => "its line ends were altered on the way",
        _ if file.iter().take(64).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "it is text",
        _ => "it begins otherwise",
    }
}
