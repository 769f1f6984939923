//! Ten programs as a newcomer writes them, each wrong, and the report that `DebugAllocator` gives of it.
//!
//! ```console
//! $ cargo run -p terrace-examples --example mistakes
//! $ cargo run -p terrace-examples --example mistakes off_by_one
//! ```
//!
//! Each file opens with its report, which a test compares with the one that it gets.

mod after_reset;
mod freed_by_two;
mod leaky_list;
mod moved_pointer;
mod negative_index;
mod off_by_one;
mod old_length;
mod stale_after_growth;
mod wrong_allocator;
mod wrong_layout;

use std::{env, sync::Mutex};

use terrace::{
    DebugAllocator, DebugConfig, SystemAllocator,
    debug::{Handler, Report},
};

/// What the programs allocate from.
type Debug<'r> = DebugAllocator<SystemAllocator, &'r Reports>;

/// Keeps the reports instead of aborting.
#[derive(Default)]
struct Reports(Mutex<Vec<String>>);

impl Handler for &Reports {
    fn report(&self, report: &Report) {
        self.0.lock().expect("nobody panics").push(report.to_string());
    }
}

/// Its name, its text, and what it does.
type Program = (&'static str, &'static str, fn(&Debug));

macro_rules! programs {
    ($($name:ident),*) => {
        [$((stringify!($name), include_str!(concat!(stringify!($name), ".rs")), $name::run)),*]
    };
}

const PROGRAMS: [Program; 10] = programs![
    leaky_list,
    off_by_one,
    negative_index,
    stale_after_growth,
    after_reset,
    freed_by_two,
    wrong_layout,
    old_length,
    moved_pointer,
    wrong_allocator
];

/// What is reported of a program, up to its end.
fn reports_of(run: fn(&Debug)) -> Vec<String> {
    let reports = Reports::default();
    let mut debug = DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), &reports);
    run(&debug);
    let check = debug.deinit();
    drop(debug);
    let reports = reports.0.into_inner().expect("nobody panics");
    assert_eq!(reports.len(), check.leaks + check.mistakes);
    reports
}

fn main() {
    let wanted = env::args().nth(1);
    for (name, _, run) in PROGRAMS {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            println!("{name}");
            reports_of(run).iter().for_each(|report| println!("{report}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses and the numbers of threads differ from run to run.
    fn steady(report: &str) -> String {
        let mut text = String::new();
        for line in report.lines() {
            let (place, thread) = line.split_once(", thread ").map_or((line, ""), |(place, _)| (place, ", thread …"));
            let words: Vec<_> =
                place.split(' ').map(|word| word.split_once("0x").map_or(word.into(), hidden)).collect();
            text += &format!("{}{thread}\n", words.join(" "));
        }
        text
    }

    /// `0x7f12,` is `0x…,`.
    fn hidden((before, digits): (&str, &str)) -> String {
        let rest = digits.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        format!("{before}0x…{rest}")
    }

    /// The text block of a file's own documentation.
    fn promised(source: &str) -> String {
        let lines = source.lines().skip_while(|line| *line != "//! ```text").skip(1);
        let lines = lines.take_while(|line| *line != "//! ```");
        lines
            .map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default().to_owned() + "\n")
            .collect()
    }

    #[test]
    fn each_program_gets_the_report_that_its_file_shows() {
        let mut wrong = String::new();
        for (name, source, run) in PROGRAMS {
            let found: String = reports_of(run).iter().map(|report| steady(report)).collect();
            if found != promised(source) {
                wrong += &format!("examples/mistakes/{name}.rs:\n{found}\n");
            }
        }
        assert!(wrong.is_empty(), "the reports are\n{wrong}");
    }
}
