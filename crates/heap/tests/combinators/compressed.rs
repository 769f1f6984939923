//! `Compressed`: what is stored comes back, whatever the codec answers and whenever memory is refused.

use proptest::prelude::*;
use terrace_core::AllocError;
use terrace_heap::{Codec, Compressed};

use crate::support::{Ground, cases};

/// Runs of equal bytes as pairs of length and byte: enough to shrink and to grow.
struct Runs;

impl Codec for Runs {
    fn bound(&self, len: usize) -> usize {
        2 * len
    }

    fn pack(&self, plain: &[u8], packed: &mut [u8]) -> Option<usize> {
        let runs = plain.chunk_by(|one, next| one == next).flat_map(|run| run.chunks(255));
        let mut at = 0;
        for run in runs {
            packed[at..at + 2].copy_from_slice(&[run.len() as u8, run[0]]);
            at += 2;
        }
        Some(at)
    }

    fn unpack(&self, packed: &[u8], plain: &mut [u8]) -> bool {
        let bytes = packed.chunks(2).flat_map(|pair| std::iter::repeat_n(pair[1], pair[0].into()));
        plain.iter_mut().zip(bytes).fold(0, |count, (place, byte)| {
            *place = byte;
            count + 1
        }) == plain.len()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Evict,
    Get,
    Write(usize, u8),
    Refuse(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Evict),
        3 => Just(Step::Get),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Step::Write(at, byte)),
        2 => (0usize..4).prop_map(Step::Refuse),
    ];
    proptest::collection::vec(step, 1..30)
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), proptest::collection::vec(0u8..2, 0..600)]
}

fn keeps(codec: impl Codec, text: Vec<u8>, steps: Vec<Step>, roomy: bool) {
    let ground = if roomy { Ground::roomy() } else { Ground::default() };
    let store = Compressed::new(&ground, codec);
    let mut text = text;
    let mut stored = store.store(&text).unwrap();
    for step in steps {
        match step {
            Step::Evict => {
                let before = stored.is_cold();
                match stored.evict() {
                    Ok(cold) => assert_eq!(cold, stored.is_cold()),
                    Err(AllocError) => assert_eq!(before, stored.is_cold()),
                }
            }
            Step::Get => {
                if let Ok(bytes) = stored.get() {
                    assert_eq!(bytes, &text);
                }
            }
            Step::Write(at, byte) if !text.is_empty() => {
                let at = at % text.len();
                if let Ok(bytes) = stored.get() {
                    bytes[at] = byte;
                    text[at] = byte;
                }
            }
            Step::Write(..) => {}
            Step::Refuse(call) => ground.refuse_in.set(call),
        }
        assert_eq!(store.hot_bytes() + store.cold_bytes(), ground.held(), "nothing else is held");
        assert_eq!(stored.len(), text.len());
        assert!(!stored.is_cold() || store.cold_bytes() < text.len(), "packed only where that saves something");
    }
    ground.refuse_in.set(0);
    assert_eq!(stored.get().unwrap(), &text);
    drop(stored);
    assert_eq!((store.hot_bytes(), store.cold_bytes(), ground.blocks()), (0, 0, 0));
}

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn what_is_stored_comes_back(text in texts(), steps in steps(), roomy in any::<bool>()) {
        keeps(Runs, text, steps, roomy);
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn what_is_stored_by_lz4_comes_back(text in texts(), steps in steps(), roomy in any::<bool>()) {
        keeps(terrace_heap::Lz4, text, steps, roomy);
    }
}

/// Answers whatever it is told.
struct Liar {
    bound: usize,
    packed: Option<usize>,
    unpacks: bool,
}

impl Codec for Liar {
    fn bound(&self, _: usize) -> usize {
        self.bound
    }

    fn pack(&self, _: &[u8], _: &mut [u8]) -> Option<usize> {
        self.packed
    }

    fn unpack(&self, _: &[u8], _: &mut [u8]) -> bool {
        self.unpacks
    }
}

#[test]
fn a_codec_that_answers_nonsense_breaks_nothing() {
    let ground = Ground::default();
    for (bound, packed, answer) in [
        (100, None, Ok(false)),
        (100, Some(50), Ok(false)), // saves nothing
        (10, Some(11), Ok(false)),  // more than there is room for
        (0, Some(1), Ok(false)),
        (100, Some(usize::MAX), Ok(false)),
        (usize::MAX, Some(1), Err(AllocError)),
    ] {
        let store = Compressed::new(&ground, Liar { bound, packed, unpacks: true });
        let mut stored = store.store(&[7; 50]).unwrap();
        assert_eq!(stored.evict(), answer, "{bound} {packed:?}");
        assert_eq!((stored.is_cold(), stored.get().unwrap()), (false, &mut [7; 50][..]));
        assert_eq!(ground.held(), 50);
    }
    for packed in [0, 1] {
        let store = Compressed::new(&ground, Liar { bound: 10, packed: Some(packed), unpacks: false });
        let mut stored = store.store(&[7; 50]).unwrap();
        assert_eq!(stored.evict(), Ok(true));
        assert_eq!(stored.get(), Err(AllocError), "what cannot be unpacked stays");
        assert_eq!((stored.is_cold(), ground.held()), (true, packed));
    }
}

#[test]
fn nothing_takes_no_memory() {
    let ground = Ground::default();
    let store = Compressed::new(&ground, Runs);
    let mut stored = store.store(&[]).unwrap();
    assert!(stored.is_empty() && !stored.evict().unwrap() && stored.get().unwrap().is_empty());
    assert_eq!(ground.allocs.get(), 0);
}

/// A codec is the caller's code: its panic may pass through, and loses no memory.
#[test]
fn a_codec_that_panics_leaves_what_was_stored() {
    struct Panics;
    impl Codec for Panics {
        fn bound(&self, len: usize) -> usize {
            len
        }
        fn pack(&self, _: &[u8], _: &mut [u8]) -> Option<usize> {
            panic!("the codec gave up")
        }
        fn unpack(&self, _: &[u8], _: &mut [u8]) -> bool {
            false
        }
    }
    let ground = Ground::default();
    let store = Compressed::new(&ground, Panics);
    let mut stored = store.store(&[7; 50]).unwrap();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stored.evict())).is_err());
    assert_eq!((ground.held(), stored.get().unwrap()), (50, &mut [7; 50][..]));
}
