//! Stack `stackfallback`: `BufferFirstAllocator` decides, and asks its backing, as Zig's does.

use terrace_heap::{BufferFirstAllocator, FixedBufferAllocator};

use crate::{
    blocks::Blocks,
    ground::Ground,
    record::{Names, Recorder},
    script::{Outcome, Script},
};

pub fn replay(script: &Script) -> Outcome {
    let mut buffer = Ground::new(script.parameter(1), script.parameter(3));
    let mut fallback = Ground::new(script.parameter(2), 0);
    let (origin, names) = (buffer.origin(), Names::Offsets { origin: fallback.origin(), prefix: "fb+" });
    let recorder = Recorder::new(FixedBufferAllocator::new(fallback.buffer()), names);
    let first = BufferFirstAllocator::new(buffer.buffer(), &recorder);
    let mut blocks = Blocks::default();
    script.compare(|line| {
        let answer = blocks.answer(&first, line, &|start| {
            if first.in_buffer(start) { format!("buf+{}", start.addr().get() - origin) } else { recorder.name(start) }
        });
        let decision = answer.unwrap_or_else(|| match line.op[0].as_str() {
            "q" => format!("buf={} fb={}", first.end_index(), recorder.backing().end_index()),
            other => panic!("an operation that the README does not name: {other}"),
        });
        recorder.with_requests(decision)
    })
}
