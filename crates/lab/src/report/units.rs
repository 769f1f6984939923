//! Numbers as people read them: three digits and a unit.
#![forbid(unsafe_code)]

/// Bytes, in the largest unit of which there is at least one.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Nanoseconds, in the largest unit of which there is at least one.
pub fn nanos(nanos: f64) -> String {
    scaled(nanos, 1000.0, ["ns", "µs", "ms", "s"])
}

fn scaled<const N: usize>(number: f64, step: f64, units: [&str; N]) -> String {
    let (mut number, mut unit) = (number.max(0.0), 0);
    // 999.5 would be printed as 1000.
    while number >= step.min(999.5) && unit + 1 < N {
        (number, unit) = (number / step, unit + 1);
    }
    let whole = unit == 0 && number.fract() == 0.0;
    let digits = if whole || number >= 99.95 {
        0
    } else if number >= 9.995 {
        1
    } else {
        2
    };
    let digits = if number == 0.0 { 0 } else { digits };
    format!("{number:.digits$} {}", units[unit])
}

/// A count, its thousands parted.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut parted = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            parted.push(',');
        }
        parted.push(digit);
    }
    parted
}

/// A ratio of at least one: `2.1×`, `35×`.
pub fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 9.95 => format!("{ratio:.1}×"),
        ratio => format!("{ratio:.0}×"),
    }
}

/// The middle of `values`; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        let shown = [0, 1, 999, 1000, 1536, 10 << 10, 100 << 10, 1023 << 10, 10_441_709, u64::MAX].map(bytes);
        let wanted =
            ["0 B", "1 B", "999 B", "0.98 KiB", "1.50 KiB", "10.0 KiB", "100 KiB", "1.00 MiB", "9.96 MiB", "16.0 EiB"];
        assert_eq!(shown, wanted);
        let shown = [0.0, 4.26, 42.6, 426.0, 999.7, 4_260.0, 4.2e6, 4.2e12].map(nanos);
        assert_eq!(shown, ["0 ns", "4.26 ns", "42.6 ns", "426 ns", "1.00 µs", "4.26 µs", "4.20 ms", "4200 s"]);
    }

    #[test]
    fn counts_part_their_thousands() {
        assert_eq!([0, 999, 1000, 786_454, 1_000_000].map(count), ["0", "999", "1,000", "786,454", "1,000,000"]);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
