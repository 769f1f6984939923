//! A golden vector: the operations of one script with Zig's answers, and what became of a replay.

use std::{collections::BTreeMap, fs, path::Path};

/// One file.
pub struct Script {
    pub name: String,
    /// The words of its `stack` line, the first being its kind.
    stack: Vec<String>,
    pub lines: Vec<Line>,
}

/// One operation.
pub struct Line {
    /// In the file, from 1.
    number: usize,
    pub op: Vec<String>,
    /// `decision`, or `decision | requests`.
    pub answer: String,
}

impl Line {
    pub fn id(&self) -> u32 {
        self.number_at(1)
    }

    pub fn number_at<N: std::str::FromStr>(&self, word: usize) -> N {
        let text = self.op.get(word).map_or("nothing", String::as_str);
        text.parse().unwrap_or_else(|_| panic!("line {}: a number, not {text}", self.number))
    }

    pub fn decision(&self) -> &str {
        self.requests().0
    }

    /// The decision, and the requests to the backing.
    pub fn requests(&self) -> (&str, &str) {
        self.answer.split_once(" | ").unwrap_or((&self.answer, ""))
    }
}

impl Script {
    pub fn read(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut stack = Vec::new();
        let mut lines = Vec::new();
        for (at, text) in text.lines().enumerate().filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
            if let Some(words) = text.strip_prefix("stack ") {
                stack = words.split_whitespace().map(String::from).collect();
                continue;
            }
            let (op, answer) = text.split_once(" -> ").unwrap_or_else(|| panic!("{name}:{}: no operation", at + 1));
            let op = op.split_whitespace().map(String::from).collect();
            lines.push(Line { number: at + 1, op, answer: answer.to_string() });
        }
        assert!(!stack.is_empty() && !lines.is_empty(), "{name}: not a golden vector");
        Self { name, stack, lines }
    }

    /// The stack without its numbers.
    pub fn kind(&self) -> &str {
        &self.stack[0]
    }

    /// A number of the `stack` line.
    pub fn parameter(&self, word: usize) -> usize {
        self.stack[word].parse().unwrap_or_else(|_| panic!("{}: a number in the stack line", self.name))
    }

    /// Where to look, in messages of failure.
    pub fn place(&self, line: &Line) -> String {
        format!("{}:{}: {} -> {}", self.name, line.number, line.op.join(" "), line.answer)
    }

    /// Replays every operation and compares each answer word for word.
    pub fn compare(&self, mut answer: impl FnMut(&Line) -> String) -> Outcome {
        for line in &self.lines {
            assert_eq!(answer(line), line.answer, "ours, then Zig's, at {}", self.place(line));
        }
        Outcome { compared: self.lines.len(), ..Outcome::default() }
    }
}

/// What became of a replay.
#[derive(Default)]
pub struct Outcome {
    pub compared: usize,
    /// What ours granted and Zig refused, among the compared.
    pub beyond: usize,
    /// What Zig granted in place and ours by moving, among the compared.
    pub moved: usize,
    /// Operations that were not compared, by reason.
    pub exceptions: BTreeMap<&'static str, usize>,
    /// The most bytes held of the backing over Zig's, by script, where that is the question.
    pub ratios: Vec<(String, f64)>,
}

impl Outcome {
    pub fn excepted(script: &Script, reason: &'static str) -> Self {
        Self { exceptions: BTreeMap::from([(reason, script.lines.len())]), ..Self::default() }
    }

    pub fn add(&mut self, other: Self) {
        self.compared += other.compared;
        self.beyond += other.beyond;
        self.moved += other.moved;
        for (reason, count) in other.exceptions {
            *self.exceptions.entry(reason).or_default() += count;
        }
        self.ratios.extend(other.ratios);
    }
}
