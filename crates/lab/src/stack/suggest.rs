//! Near misses: the known word that a mistyped one most resembles.
//!
//! Cost: the product of both lengths, on words of a few letters.
#![forbid(unsafe_code)]

/// The one of `known` that takes the fewest edits to reach, where that is at most a third of its length (and at least one).
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let (edits, best) = known.into_iter().map(|name| (edits(&word, name), name)).min()?;
    (edits <= (best.len() / 3).max(1)).then_some(best)
}

/// Insertions, removals, replacements and swaps of neighbours between two words.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(40).collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=to.len()).collect();
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 7] = ["page", "system", "smp", "arena", "sync_arena", "fixed", "mimalloc"];

    #[test]
    fn a_slip_of_the_fingers_is_recognised() {
        assert_eq!(nearest("aerna", KNOWN), Some("arena"));
        assert_eq!(nearest("Pages", KNOWN), Some("page"));
        assert_eq!(nearest("mimaloc", KNOWN), Some("mimalloc"));
        assert_eq!(nearest("smpp", KNOWN), Some("smp"));
        assert_eq!(nearest("sync-arena", KNOWN), Some("sync_arena"));
    }

    #[test]
    fn another_word_is_not_taken_for_a_known_one() {
        assert_eq!(nearest("buddy", KNOWN), None);
        assert_eq!(nearest("", KNOWN), None);
    }
}
