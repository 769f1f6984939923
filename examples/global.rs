//! One line makes Terrace the program's malloc: every `Box`, `Vec` and `String`, std's own included.
//!
//! ```console
//! $ cargo run -p terrace-examples --example global
//! 20000 words, 23 longest of 40 bytes
//! all of them came from Terrace
//! ```
//!
//! There is nothing to start and nothing to call. The line may stand in any crate of a program, once.

use std::{collections::BTreeMap, thread};

#[global_allocator]
static MALLOC: terrace::Global = terrace::Global::new();

/// Words by length, made by as many threads as it takes.
fn words_by_length(count: usize) -> BTreeMap<usize, Vec<String>> {
    let threads: Vec<_> =
        (0..4).map(|thread| thread::spawn(move || (thread..count).step_by(4).map(word).collect::<Vec<_>>())).collect();
    let mut by_length = BTreeMap::<usize, Vec<String>>::new();
    // What the threads allocated lives on when they have ended, and is freed here.
    for word in threads.into_iter().flat_map(|thread| thread.join().expect("words are made")) {
        by_length.entry(word.len()).or_default().push(word);
    }
    by_length
}

fn word(number: usize) -> String {
    let syllables = ["ter", "race", "slab", "page", "depot", "class"];
    let take = 1 + number % 8;
    (0..take).map(|n| syllables[(number / (n + 1)) % syllables.len()]).collect()
}

fn main() {
    let words = words_by_length(20_000);
    let count: usize = words.values().map(Vec::len).sum();
    let (longest, those) = words.last_key_value().expect("there are words");
    println!("{count} words, {} longest of {longest} bytes", those.len());
    drop(words);
    MALLOC.trim();
    println!("all of them came from Terrace");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_lost_between_the_threads() {
        let words = words_by_length(1000);
        let mut all: Vec<_> = words.into_values().flatten().collect();
        let mut expected: Vec<_> = (0..1000).map(word).collect();
        all.sort();
        expected.sort();
        assert_eq!(all, expected);
    }
}
