//! What every layer over an allocator of frames passes on unchanged: it hands out its backing's own frames.
#![forbid(unsafe_code)]

/// The questions of a [`FrameAllocator`](crate::FrameAllocator), asked of the field `backing`.
macro_rules! pass_on_questions {
    ($($backing:ident).+) => {
        fn drain(&self) {
            self.$($backing).+.drain();
        }

        fn span(&self) -> Frames {
            self.$($backing).+.span()
        }

        fn total_frames(&self) -> usize {
            self.$($backing).+.total_frames()
        }

        fn free_frames(&self) -> usize {
            self.$($backing).+.free_frames()
        }

        fn is_free(&self, frame: Frame) -> bool {
            self.$($backing).+.is_free(frame)
        }

        fn free_word(&self, word: usize) -> u64 {
            self.$($backing).+.free_word(word)
        }

        fn manages(&self, frames: Frames) -> bool {
            self.$($backing).+.manages(frames)
        }
    };
}

pub(crate) use pass_on_questions;
