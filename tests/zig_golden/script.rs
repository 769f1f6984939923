//! A golden vector: the operations of one script with Zig's answers, and what became of a replay.

use std::{cell::Cell, collections::BTreeMap, fs, path::Path, thread};

/// One file.
pub struct Script {
    pub name: String,
    /// The words of its `stack` line, the first being its kind.
    stack: Vec<String>,
    pub lines: Vec<Line>,
    /// Of the line under judgement, its index.
    now: Cell<usize>,
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
        text.parse().unwrap_or_else(|_| panic!("a number, not {text}"))
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
        let lines_of_text = text.lines().map(str::trim_end).enumerate();
        for (at, text) in lines_of_text.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
            if let Some(words) = text.strip_prefix("stack ") {
                stack = words.split_whitespace().map(String::from).collect();
                continue;
            }
            let (op, answer) = text.split_once(" -> ").unwrap_or_else(|| panic!("{name}:{}: no operation", at + 1));
            let op: Vec<String> = op.split_whitespace().map(String::from).collect();
            assert!(!op.is_empty(), "{name}:{}: no operation", at + 1);
            lines.push(Line { number: at + 1, op, answer: answer.to_string() });
        }
        assert!(!stack.is_empty() && !lines.is_empty(), "{name}: not a golden vector");
        Self { name, stack, lines, now: Cell::new(0) }
    }

    /// The stack without its numbers.
    pub fn kind(&self) -> &str {
        &self.stack[0]
    }

    /// A number of the `stack` line.
    pub fn parameter(&self, word: usize) -> usize {
        let text = self.stack.get(word).map_or("nothing", String::as_str);
        text.parse().unwrap_or_else(|_| panic!("{}: a number in the stack line, not {text}", self.name))
    }

    /// Where to look, in messages of failure.
    pub fn place(&self, line: &Line) -> String {
        format!("{}:{}: {} -> {}", self.name, line.number, line.op.join(" "), line.answer)
    }

    /// The operations one after another, each being the one under judgement while the caller looks at it.
    pub fn each(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().enumerate().map(|(at, line)| {
            self.now.set(at);
            line
        })
    }

    /// The most bytes that ours and Zig's held; `None` where the buffer is too small for one of them to hold anything.
    pub fn most_held(&self, ours: usize, zigs: usize) -> Option<MostHeld> {
        (ours > 0 && zigs > 0).then(|| MostHeld { name: self.name.clone(), ours, zigs })
    }

    /// Replays every operation and compares each answer word for word.
    pub fn compare(&self, mut answer: impl FnMut(&Line) -> String) -> Outcome {
        for line in self.each() {
            assert_eq!(answer(line), line.answer, "ours, then Zig's, at {}", self.place(line));
        }
        Outcome { compared: self.lines.len(), ..Outcome::default() }
    }
}

/// Names file and line where a judge panics.
pub struct Watch<'a>(pub &'a Script);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("at {}", self.0.place(&self.0.lines[self.0.now.get()]));
        }
    }
}

/// The most bytes of the backing that were held at once in a script.
pub struct MostHeld {
    pub name: String,
    pub ours: usize,
    pub zigs: usize,
}

impl MostHeld {
    pub fn ratio(&self) -> f64 {
        self.ours as f64 / self.zigs as f64
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
    /// Where ours decided otherwise, as it should, among the compared, by reason.
    pub differences: BTreeMap<&'static str, usize>,
    /// Operations that were not compared, by reason.
    pub exceptions: BTreeMap<&'static str, usize>,
    /// By script, where that is the question.
    pub most_held: Vec<MostHeld>,
}

impl Outcome {
    pub fn excepted(script: &Script, reason: &'static str) -> Self {
        Self { exceptions: BTreeMap::from([(reason, script.lines.len())]), ..Self::default() }
    }

    pub fn add(&mut self, other: Self) {
        self.compared += other.compared;
        self.beyond += other.beyond;
        self.moved += other.moved;
        for (reason, count) in other.differences {
            *self.differences.entry(reason).or_default() += count;
        }
        for (reason, count) in other.exceptions {
            *self.exceptions.entry(reason).or_default() += count;
        }
        self.most_held.extend(other.most_held);
    }
}
