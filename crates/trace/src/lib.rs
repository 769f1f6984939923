//! A compact binary format for recorded allocations.
//!
//! ```text
//!   recorder, logging allocator ─▶ Event ─▶ Writer ─▶ file ─▶ Reader ─▶ Event ─▶ Summary, replayer
//!   text traces of other tools  ─▶ import ──┘
//! ```
//!
//! - [`Op`] says what can happen in a trace, [`mod@format`] how it is written: frames of up to 16,384 events, each
//!   compressed and summed up on its own, and an index. About three bytes an event.
//! - [`Writer`] takes events, [`Reader`] gives them back, checked: a trace that was cut off is readable up to its
//!   last whole frame, and no file makes the reader panic or take memory beyond the file's own measure.
//! - [`Summary`] adds events up, [`import`](import()) reads the text formats of other tools.
//! - `TraceSink` (feature `log`, on by default) writes what a `LogAllocator` hears.

mod check;
mod codec;
mod error;
mod event;
pub mod format;
mod header;
mod import;
#[cfg(feature = "log")]
mod log;
mod map;
mod names;
mod reader;
mod summary;
mod varint;
mod writer;

pub use error::{Fault, TraceError};
pub use event::{AllocKind, BlockId, Event, FreeKind, Nothing, Op, ThreadId};
pub use header::{Header, Machine, Source};
pub use import::{Format, ImportReport, Progress, detect, import, import_from};
#[cfg(feature = "log")]
pub use log::TraceSink;
pub use names::BlockNames;
pub use reader::{Events, Reader, Stream};
pub use summary::{Sizes, Summary};
pub use writer::Writer;
