//! Stack `fba`: each form of the fixed buffer decides as Zig's.

use terrace_core::{Allocator, Reset, ResetMode};
use terrace_heap::{FixedBufferAllocator, SyncFixedBuffer};

use crate::{
    blocks::Blocks,
    ground::Ground,
    script::{Outcome, Script},
};

pub fn local(script: &Script) -> Outcome {
    let mut ground = Ground::new(script.parameter(1), script.parameter(2));
    let origin = ground.origin();
    let fixed = FixedBufferAllocator::new(ground.buffer());
    replay(script, fixed, FixedBufferAllocator::end_index, origin)
}

pub fn sync(script: &Script) -> Outcome {
    let mut ground = Ground::new(script.parameter(1), script.parameter(2));
    let origin = ground.origin();
    let fixed = SyncFixedBuffer::new(ground.buffer());
    replay(script, fixed, SyncFixedBuffer::end_index, origin)
}

fn replay<F: Allocator + Reset>(script: &Script, mut fixed: F, end_index: fn(&F) -> usize, origin: usize) -> Outcome {
    let mut blocks = Blocks::default();
    script.compare(|line| {
        let answer = blocks.answer(&fixed, line, &|start| (start.addr().get() - origin).to_string());
        answer.unwrap_or_else(|| match line.op[0].as_str() {
            "l" => (blocks.get(line.id()).end() == origin + end_index(&fixed)).to_string(),
            "q" => end_index(&fixed).to_string(),
            "x" => {
                blocks.clear();
                assert!(fixed.reset(ResetMode::FreeAll));
                "ok".to_string()
            }
            other => panic!("an operation that the README does not name: {other}"),
        })
    })
}
