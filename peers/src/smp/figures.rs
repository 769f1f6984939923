//! The arithmetic of the group: medians, ratios, means, and what they say about the goals.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// Figures by contestant.
pub type ByName<T> = BTreeMap<&'static str, T>;

/// Lower quartile, median and upper quartile; `None` of no samples.
pub fn quartiles(samples: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let between = |quarter: usize| {
        // Between two samples where the quarter falls between them.
        let (index, rest) = (last * quarter / 4, (last * quarter % 4) as f64 / 4.0);
        let next = sorted[(index + 1).min(last)];
        sorted[index] + (next - sorted[index]) * rest
    };
    Some([between(1), between(2), between(3)])
}

/// The lowest of those that are not `ours`.
pub fn best_peer(figures: &ByName<f64>, ours: &str) -> Option<(&'static str, f64)> {
    let peers = figures.iter().filter(|(name, _)| **name != ours);
    peers.min_by(|a, b| a.1.total_cmp(b.1)).map(|(name, figure)| (*name, *figure))
}

/// The geometric mean, `None` of nothing.
pub fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let sum: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
}

/// `name` to each other over the rows that both have a figure in: the mean ratio and how many rows.
pub fn against_each(rows: &[&ByName<f64>], name: &str) -> ByName<(f64, usize)> {
    let mut ratios: ByName<Vec<f64>> = ByName::new();
    for row in rows {
        let Some(ours) = row.get(name) else { continue };
        for (peer, figure) in row.iter().filter(|(peer, _)| **peer != name) {
            ratios.entry(peer).or_default().push(ours / figure);
        }
    }
    let mean = |(peer, ratios): (_, Vec<f64>)| Some((peer, (geometric_mean(&ratios)?, ratios.len())));
    ratios.into_iter().filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_the_sorted_samples() {
        assert_eq!(quartiles(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some([2.0, 3.0, 4.0]));
        assert_eq!(quartiles(&[1.0, 2.0, 3.0, 4.0]), Some([1.75, 2.5, 3.25]));
        assert_eq!(quartiles(&[7.0]), Some([7.0; 3]));
        assert_eq!(quartiles(&[]), None);
    }

    #[test]
    fn the_best_peer_is_never_ours() {
        let figures = ByName::from([("terrace", 1.0), ("a", 3.0), ("b", 2.0)]);
        assert_eq!(best_peer(&figures, "terrace"), Some(("b", 2.0)));
        assert_eq!(best_peer(&ByName::from([("terrace", 1.0)]), "terrace"), None);
    }

    #[test]
    fn a_mean_of_ratios_is_geometric() {
        let mean = geometric_mean(&[0.5, 2.0, 8.0]).expect("three");
        assert!((mean - 2.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn only_rows_that_both_have_count_in_a_mean() {
        let both = ByName::from([("terrace", 1.0), ("a", 2.0)]);
        let more = ByName::from([("terrace", 4.0), ("a", 2.0), ("b", 1.0)]);
        let without = ByName::from([("a", 9.0), ("b", 9.0)]);
        let means = against_each(&[&both, &more, &without], "terrace");
        assert_eq!(means.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        assert!((means["a"].0 - 1.0).abs() < 1e-12 && means["a"].1 == 2);
        assert!((means["b"].0 - 4.0).abs() < 1e-12 && means["b"].1 == 1);
        assert!(against_each(&[&without], "terrace").is_empty());
    }
}
