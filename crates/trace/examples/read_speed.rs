//! How fast a trace is written, read and summed up, on one core.
//!
//! ```text
//! cargo run --release -p terrace-trace --example read_speed            20 million made-up events
//! cargo run --release -p terrace-trace --example read_speed -- FILE    a trace, or a text trace to import
//! ```

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use terrace_trace::{
    AllocKind, BlockId, BlockNames, Event, FreeKind, Header, Op, Reader, Summary, ThreadId, Writer, detect, import,
};

const EVENTS: u64 = 20_000_000;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = std::env::temp_dir().join(format!("terrace-read-speed-{}.trace", std::process::id()));
    let outcome = std::env::args_os().nth(1).map(PathBuf::from).map_or_else(
        || generate(&scratch).and_then(|()| measure(&scratch)),
        |given| match Reader::open(&given) {
            Ok(_) => measure(&given),
            Err(_) => convert(&given, &scratch).and_then(|()| measure(&scratch)),
        },
    );
    let _ = std::fs::remove_file(&scratch);
    outcome
}

fn measure(path: &Path) -> Result<(), Box<dyn Error>> {
    let reader = Reader::open(path)?;
    let bytes = std::fs::metadata(path)?.len();
    println!("{} events in {bytes} bytes, {:.2} each", reader.len(), bytes as f64 / reader.len() as f64);
    time("events, one by one", reader.len(), || {
        let mut sum = 0u64;
        for event in reader.events() {
            sum += u64::from(black_box(event?).thread.0);
        }
        black_box(sum);
        Ok(())
    })?;
    time("events, by the frame", reader.len(), || {
        let mut stream = reader.stream();
        while let Some(events) = stream.next_frame()? {
            black_box(events);
        }
        Ok(())
    })?;
    time("frames alone, unchecked", reader.len(), || {
        let mut events = Vec::new();
        for number in 0..reader.frames().len() {
            events.clear();
            reader.decode_frame(number, &mut events)?;
            black_box(&events);
        }
        Ok(())
    })?;
    time("summary", reader.len(), || {
        black_box(Summary::of_stream(reader.stream())?);
        Ok(())
    })
}

/// The best of some rounds.
fn time(what: &str, events: u64, mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let each = best * 1e9 / events as f64;
    println!("{what:<24} {:7.1} M events/s  {each:6.2} ns each", events as f64 / best / 1e6);
    Ok(())
}

fn convert(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut writer = Writer::create(to, Header::imported(detect(from)?, from.display()))?;
    let report = import(from, |_| {}, &mut writer)?;
    writer.finish()?;
    println!("imported {} lines in {:.3} s", report.lines, start.elapsed().as_secs_f64());
    Ok(())
}

/// A program with four threads, up to 100,000 live blocks and sizes that are mostly small.
fn generate(to: &Path) -> Result<(), Box<dyn Error>> {
    let mut writer = Writer::create(to, Header::default())?;
    let (mut names, mut live, mut random) = (BlockNames::default(), Vec::<BlockId>::new(), 1u64);
    for thread in 0..4 {
        writer.push(Event { thread: ThreadId(thread), op: Op::ThreadStart })?;
    }
    let start = Instant::now();
    while writer.events() < EVENTS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (random >> 33) as usize;
        // Threads take turns of some hundred calls, and what is young dies first.
        let thread = ThreadId((writer.events() / 300 % 4) as u32);
        let op = if live.len() < 100_000 && pick % 1000 < 505 {
            let block = names.take();
            live.push(block);
            Op::Alloc { block, len: (pick as u64 >> 10) % (1 << (3 + pick % 9)), align_log2: 4, kind: AllocKind::Plain }
        } else if let Some(last) = live.len().checked_sub(1) {
            let block = live.swap_remove(last - (pick >> 10) % live.len().min(1 << (pick % 17)));
            names.give_back(block);
            Op::Free { block, kind: FreeKind::Plain }
        } else {
            continue;
        };
        writer.push(Event { thread, op })?;
    }
    writer.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("wrote {:.1} M events/s, with making them up", EVENTS as f64 / seconds / 1e6);
    Ok(())
}
