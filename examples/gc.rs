//! A small interpreter whose garbage collector runs when the memory beneath it is under pressure.
//!
//! ```console
//! $ cargo run --release -p terrace-examples --example gc
//! garbage: 500000 objects tracked, 4541 left, in 31 collections; at most 1024 KiB live, threshold now 1024 KiB
//! cycles: 100000 objects tracked, 8862 left, in 5 collections; at most 1048 KiB live, threshold now 1024 KiB
//! list: 100000 objects tracked, 100000 left, in 3 collections; at most 4109 KiB live, threshold now 8218 KiB
//! ```
//!
//! The language is one of words and a stack: `1 nil cons` is a pair, `"red" "wine" join` a text. Pairs can be changed, so programs
//! make cycles, which counting references would never free. The cells of all objects and the bytes of all texts lie in one
//! `PressureAllocator`: when more than a threshold is live, a collection is due, and the interpreter makes it between two words, where
//! all that it uses is on its stack or has a name. The tests assert what the statistics say.

use std::{collections::HashMap, fmt, str::SplitWhitespace};

use allocator_api2_02::vec::Vec as Bytes;
use terrace::{
    LimitAllocator, PageAllocator, PressureAllocator, SmpAllocator, ThreadSlots,
    gc::{Collection, Due, Heap, Marker, Trace, Tracked},
};

/// What the interpreter may have at all, and tells of when much of it is in use.
type Ground = LimitAllocator<SmpAllocator>;
type Memory = PressureAllocator<Ground, Due>;

fn memory(limit: usize) -> Memory {
    let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    Memory::new(LimitAllocator::new(smp, limit), Due::new())
}

/// What is on the stack.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'m> {
    Nil,
    Number(f64),
    Object(Tracked<Object<'m>>),
}

/// What is in the heap.
enum Object<'m> {
    Pair(Value<'m>, Value<'m>),
    Text(Bytes<u8, &'m Memory>),
}

impl Trace for Object<'_> {
    fn trace(&self, marker: &mut Marker<'_, Self>) {
        let Self::Pair(head, tail) = self else { return };
        for value in [head, tail] {
            if let Value::Object(object) = value {
                marker.mark(*object);
            }
        }
    }
}

/// A program, read.
#[derive(Debug)]
enum Op {
    Number(f64),
    Text(String),
    Word(String),
    Store(String),
    Times(Vec<Op>),
}

/// Why a program stopped.
#[derive(Debug, PartialEq)]
struct Stopped(String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn stopped<T>(why: impl Into<String>) -> Result<T, Stopped> {
    Err(Stopped(why.into()))
}

/// Reads up to the end, or up to the bracket that closes a block.
fn read(words: &mut SplitWhitespace<'_>, depth: usize) -> Result<Vec<Op>, Stopped> {
    let mut ops = Vec::new();
    while let Some(word) = words.next() {
        let quoted = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
        ops.push(match (word, word.parse(), quoted) {
            ("[", ..) if depth < 50 => Op::Times(read(words, depth + 1)?),
            ("[", ..) => return stopped("too many brackets"),
            ("]", ..) if depth > 0 => return Ok(ops),
            (_, Ok(number), _) => Op::Number(number),
            (.., Some(text)) => Op::Text(text.into()),
            _ => match word.strip_prefix('>').filter(|name| !name.is_empty()) {
                Some(name) => Op::Store(name.into()),
                None => Op::Word(word.into()),
            },
        });
    }
    if depth == 0 { Ok(ops) } else { stopped("a bracket is not closed") }
}

/// The interpreter.
struct Machine<'m> {
    memory: &'m Memory,
    heap: Heap<'m, Object<'m>, Ground>,
    stack: Vec<Value<'m>>,
    names: HashMap<String, Value<'m>>,
    /// What each collection did, and the threshold after it.
    collections: Vec<(Collection, usize)>,
}

impl<'m> Machine<'m> {
    fn new(memory: &'m Memory) -> Self {
        let (stack, names, collections) = (Vec::new(), HashMap::new(), Vec::new());
        Self { memory, heap: Heap::new(memory), stack, names, collections }
    }

    /// Runs a program; what it leaves on the stack stays there.
    fn run(&mut self, program: &str) -> Result<(), Stopped> {
        let ops = read(&mut program.split_whitespace(), 0)?;
        self.all(&ops)
    }

    fn all(&mut self, ops: &[Op]) -> Result<(), Stopped> {
        for op in ops {
            self.step(op)?;
            // Between two words every object in use is on the stack or has a name: a safe point.
            if self.heap.is_due() {
                self.collect();
            }
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Result<(), Stopped> {
        match op {
            Op::Number(number) => self.stack.push(Value::Number(*number)),
            Op::Text(text) => self.push_text(0, &[text.as_bytes()])?,
            Op::Word(word) => self.word(word)?,
            Op::Store(name) => {
                let value = self.pop()?;
                self.names.insert(name.clone(), value);
            }
            Op::Times(ops) => {
                let Value::Number(times) = self.pop()? else { return stopped("[ wants a number of times") };
                for _ in 0..times as u64 {
                    self.all(ops)?;
                }
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Stopped> {
        match word {
            "nil" => self.stack.push(Value::Nil),
            "dup" => self.stack.push(self.top(0)?),
            "drop" => drop(self.pop()?),
            "+" => match (self.pop()?, self.pop()?) {
                (Value::Number(b), Value::Number(a)) => self.stack.push(Value::Number(a + b)),
                _ => return stopped("+ wants two numbers"),
            },
            "cons" => {
                let pair = Object::Pair(self.top(1)?, self.top(0)?);
                self.push_object(2, pair)?;
            }
            "head" | "tail" => {
                let Some(&Object::Pair(head, tail)) = self.object(0)? else { return stopped("no pair") };
                self.pop()?;
                self.stack.push(if word == "head" { head } else { tail });
            }
            // pair value -- pair
            "set-tail" => {
                let (Value::Object(pair), value) = (self.top(1)?, self.top(0)?) else { return stopped("no pair") };
                let Some(Object::Pair(_, tail)) = self.heap.get_mut(pair) else { return stopped("no pair") };
                *tail = value;
                self.pop()?;
            }
            "join" => {
                let texts = (self.object(1)?, self.object(0)?);
                let (Some(Object::Text(a)), Some(Object::Text(b))) = texts else { return stopped("join wants texts") };
                let (a, b) = (a.to_vec(), b.to_vec()); // Out of the heap, which may have to collect for the joined one.
                self.push_text(2, &[&a, &b])?;
            }
            name => match self.names.get(name) {
                Some(value) => self.stack.push(*value),
                None => return stopped(format!("nobody knows {name}")),
            },
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'m>, Stopped> {
        self.stack.pop().map_or_else(|| stopped("nothing on the stack"), Ok)
    }

    /// The value under so many others.
    fn top(&self, under: usize) -> Result<Value<'m>, Stopped> {
        let at = self.stack.len().checked_sub(under + 1);
        at.map_or_else(|| stopped("too little on the stack"), |at| Ok(self.stack[at]))
    }

    fn object(&self, under: usize) -> Result<Option<&Object<'m>>, Stopped> {
        Ok(match self.top(under)? {
            Value::Object(object) => self.heap.get(object),
            Value::Nil | Value::Number(_) => None,
        })
    }

    /// A new text in the place of `used` values.
    fn push_text(&mut self, used: usize, parts: &[&[u8]]) -> Result<(), Stopped> {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Bytes::new_in(self.memory);
        if bytes.try_reserve_exact(len).is_err() {
            self.collect();
            bytes.try_reserve_exact(len).or_else(|_| stopped("out of memory"))?;
        }
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        self.push_object(used, Object::Text(bytes))
    }

    /// A new object in the place of `used` values, which stay on the stack until it is tracked: a collection may come before.
    fn push_object(&mut self, used: usize, object: Object<'m>) -> Result<(), Stopped> {
        let tracked = self.heap.track(object).or_else(|object| {
            self.collect();
            self.heap.track(object)
        });
        let Ok(object) = tracked else { return stopped("out of memory") };
        self.stack.truncate(self.stack.len() - used);
        self.stack.push(Value::Object(object));
        Ok(())
    }

    fn collect(&mut self) {
        let roots = self.stack.iter().chain(self.names.values()).filter_map(|value| match value {
            Value::Object(object) => Some(*object),
            Value::Nil | Value::Number(_) => None,
        });
        let done = self.heap.collect(roots);
        self.collections.push((done, self.memory.threshold()));
    }

    fn figures(&self) -> String {
        let stats = self.heap.stats();
        let most = self.collections.iter().map(|(done, _)| done.bytes_before).max().unwrap_or(0) >> 10;
        format!(
            "{} objects tracked, {} left, in {} collections; at most {most} KiB live, threshold now {} KiB",
            stats.total_tracked,
            stats.tracked,
            stats.collections,
            self.memory.threshold() >> 10,
        )
    }
}

const GARBAGE: &str = "100000 [ \"some\" \"words\" join \"joined\" join drop ]";
const CYCLES: &str = "100000 [ 1 nil cons dup set-tail drop ]";
const LIST: &str = "nil >list 50000 [ \"item\" list cons >list ]";

fn main() -> Result<(), Stopped> {
    for (name, program) in [("garbage", GARBAGE), ("cycles", CYCLES), ("list", LIST)] {
        let memory = memory(64 << 20);
        let mut machine = Machine::new(&memory);
        machine.run(program)?;
        println!("{name}: {}", machine.figures());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn the_language_computes() {
        let memory = memory(MIB);
        let mut machine = Machine::new(&memory);
        machine.run("1 2 + 0 5 [ 2 + ] + 7 nil cons dup head \"red\" \"wine\" join >text text").unwrap();
        assert_eq!((machine.stack[0], machine.stack[2]), (Value::Number(13.0), Value::Number(7.0)));
        let Some(Object::Text(text)) = machine.object(0).unwrap() else { panic!("a text") };
        assert_eq!(&text[..], b"redwine");
        for (program, why) in [
            ("+", "nothing on the stack"),
            ("2 [ 1", "a bracket is not closed"),
            ("nobody", "nobody knows nobody"),
            ("1 2 head", "no pair"),
        ] {
            assert_eq!(Machine::new(&memory).run(program), stopped(why), "{program}");
        }
    }

    #[test]
    fn garbage_is_collected_whenever_a_mebibyte_is_live() {
        let memory = memory(2 * MIB);
        let mut machine = Machine::new(&memory);
        machine.run(GARBAGE).unwrap();
        let stats = machine.heap.stats();
        assert_eq!(stats.total_tracked, 500_000);
        assert!(stats.collections >= 10, "{}", machine.figures());
        assert_eq!(stats.total_swept + stats.tracked as u64, stats.total_tracked);
        for (done, threshold) in &machine.collections {
            assert!(done.survived <= 3, "{done:?}: what is on the stack at that word");
            assert!(done.bytes_before > MIB && done.bytes_before < MIB + (64 << 10), "{done:?}");
            assert_eq!(*threshold, MIB, "little survives, so the threshold stays");
        }
    }

    #[test]
    fn cycles_that_nobody_reaches_are_collected() {
        let memory = memory(2 * MIB);
        let mut machine = Machine::new(&memory);
        machine.run("nil nil cons dup dup set-tail drop >kept").unwrap();
        machine.run(CYCLES).unwrap();
        machine.collect();
        let stats = machine.heap.stats();
        assert_eq!(
            (stats.total_tracked, stats.tracked, stats.total_swept),
            (100_001, 1, 100_000),
            "all but the kept one"
        );
        assert!(stats.collections >= 4, "{}", machine.figures());
        machine.run("kept tail tail tail head").unwrap();
        assert_eq!(machine.stack, [Value::Nil], "the kept cycle goes round");
    }

    #[test]
    fn the_threshold_doubles_from_what_survives() {
        let memory = memory(64 * MIB);
        let mut machine = Machine::new(&memory);
        machine.run(LIST).unwrap();
        assert_eq!(machine.heap.stats().total_swept, 0, "the list is all in use");
        let thresholds: Vec<_> = machine.collections.iter().map(|(_, threshold)| *threshold).collect();
        assert!((2..10).contains(&thresholds.len()), "{thresholds:?}: a few, each twice as far");
        for (done, threshold) in &machine.collections {
            assert_eq!(*threshold, (2 * done.bytes_after).max(MIB));
        }
        machine.run("nil >list").unwrap();
        machine.collect();
        assert_eq!((machine.heap.stats().tracked, memory.threshold()), (0, MIB), "and comes back");
    }

    #[test]
    fn a_program_that_keeps_too_much_is_told_and_the_machine_goes_on() {
        let memory = memory(3 * MIB);
        let mut machine = Machine::new(&memory);
        assert_eq!(machine.run(LIST), stopped("out of memory"));
        assert!(memory.live_bytes() <= 3 * MIB);
        machine.stack.clear();
        machine.run("nil >list").unwrap();
        machine.run(CYCLES).unwrap();
    }

    #[test]
    fn everything_goes_back_at_the_end() {
        let memory = memory(64 * MIB);
        let mut machine = Machine::new(&memory);
        machine.run(LIST).unwrap();
        assert!(memory.live_bytes() > MIB);
        drop(machine);
        assert_eq!(memory.live_bytes(), 0);
    }
}
