//! The shape of an allocator: its four methods in one order, the layer below in a field named `backing`.

use crate::source::Source;

const ORDER: [&str; 4] = ["alloc", "resize", "remap", "free"];

/// Names by which other libraries call what is `backing` here.
const OTHER_NAMES: [&str; 8] =
    ["child", "underlying", "upstream", "parent", "wrapped", "child_allocator", "inner_allocator", "base_allocator"];

/// Rule: an impl of `Allocator` writes `alloc`, `resize`, `remap`, `free`, in this order.
pub fn methods_stand_in_order(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for index in source.all("impl") {
        let Some(open) = source.body(index) else { continue };
        let of_allocator = (index..open).any(|at| source.word(at) == "Allocator" && source.word(at + 1) == "for");
        if !of_allocator {
            continue;
        }
        let methods: Vec<usize> = methods(source, open).filter(|&at| ORDER.contains(&source.word(at))).collect();
        let ranks = methods.iter().map(|&at| ORDER.iter().position(|&name| name == source.word(at)));
        if !ranks.is_sorted() {
            found.push(source.finding(index, "the order is alloc, resize, remap, free"));
        }
    }
    found
}

/// The names of the functions that stand directly in the braces at `open`.
fn methods(source: &Source, open: usize) -> impl Iterator<Item = usize> {
    let mut names = Vec::new();
    let mut index = open + 1;
    let close = source.close(open);
    while index < close {
        match source.word(index) {
            "fn" => names.push(index + 1),
            "(" | "[" | "{" => index = source.close(index),
            _ => {}
        }
        index += 1;
    }
    names.into_iter()
}

/// Rule: in `heap`, the field that holds the layer below is private and named `backing`.
pub fn the_layer_below_is_named_backing(source: &Source) -> Vec<String> {
    if !source.path.starts_with("crates/heap/src/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for index in source.all("struct") {
        let Some(open) = (index..source.len()).find(|&at| matches!(source.word(at), "{" | "(" | ";")) else { continue };
        let layers: Vec<&str> = parameters(source, index + 2).filter(|&name| is_allocator(source, name)).collect();
        for field in fields(source, open) {
            let Field { at, name, of, public } = field;
            let holds = layers.contains(&of);
            if OTHER_NAMES.contains(&name) || (holds && layers.len() == 1 && name != "backing") {
                found.push(source.finding(at, &format!("`{name}` holds the layer below: name it `backing`")));
            } else if holds && public {
                found.push(source.finding(at, "the layer below is private"));
            }
        }
    }
    found
}

/// The type parameters of the generics that open at `start`.
fn parameters(source: &Source, start: usize) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    let mut names = Vec::new();
    for at in start..source.len() {
        match source.word(at) {
            "<" => depth += 1,
            ">" if source.word(at - 1) != "-" => depth -= 1,
            name if depth == 1 && matches!(source.word(at - 1), "<" | ",") && name != "'" => names.push(name),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.into_iter()
}

/// Whether the file bounds the parameter `name` by `Allocator`.
fn is_allocator(source: &Source, name: &str) -> bool {
    source.all(name).any(|at| {
        let bounds = (at + 2..source.len()).take_while(|&at| !matches!(source.word(at), "," | ">" | "{" | ";" | ")"));
        source.word(at + 1) == ":" && bounds.into_iter().any(|at| source.word(at) == "Allocator")
    })
}

/// A field: where it stands, its name (empty in a tuple), its type where that is one word, bare or in a cell.
struct Field<'a> {
    at: usize,
    name: &'a str,
    of: &'a str,
    public: bool,
}

fn fields(source: &Source, open: usize) -> Vec<Field<'_>> {
    let close = source.close(open);
    let tuple = source.word(open) == "(";
    let mut found = Vec::new();
    let mut start = open + 1;
    while start < close {
        let end = end_of_field(source, start, close);
        let mut at = start;
        while source.word(at) == "#" {
            at = source.close(at + 1) + 1;
        }
        let public = source.word(at) == "pub";
        if public {
            at += 1;
            if source.word(at) == "(" {
                at = source.close(at) + 1;
            }
        }
        let (name, of) = if tuple { ("", at) } else { (source.word(at), at + 2) };
        let of = if source.word(of) == "ManuallyDrop" { of + 2 } else { of };
        if at < end {
            found.push(Field { at, name, of: source.word(of), public });
        }
        start = end + 1;
    }
    found
}

/// The comma after the field at `start`, or `close`.
fn end_of_field(source: &Source, start: usize, close: usize) -> usize {
    let mut angles = 0i32;
    let mut at = start;
    while at < close {
        match source.word(at) {
            "(" | "[" | "{" => at = source.close(at),
            "<" => angles += 1,
            ">" if source.word(at - 1) != "-" => angles -= 1,
            "," if angles == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    close
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> usize {
        methods_stand_in_order(&Source::new("a.rs", text)).len()
    }

    #[test]
    fn methods_in_another_order_are_named() {
        let good = "{ fn alloc() {} fn resize() {} fn remap() {} fn free() { fn alloc() {} } fn alloc_zeroed() {} }";
        let bad = "{ fn alloc() {} fn free() {} fn resize() {} fn remap() {} }";
        assert_eq!(order(&format!("impl<A: Allocator> Allocator for Canary<A> {good}")), 0);
        assert_eq!(order(&format!("impl<A: Allocator> Allocator for Canary<A> {bad}")), 1);
        assert_eq!(order(&format!("impl terrace_core::Allocator for &Canary {bad}")), 1);
        assert_eq!(order(&format!("impl<A: Allocator> Other for Canary<A> {bad}")), 0);
    }

    fn naming(text: &str) -> usize {
        the_layer_below_is_named_backing(&Source::new("crates/heap/src/a.rs", text)).len()
    }

    #[test]
    fn a_layer_below_by_another_name_is_named() {
        let with = |body: &str| format!("pub struct Canary<A> {body} impl<A: ?Sized + Allocator> Canary<A> {{}}");
        assert_eq!(naming(&with("{ backing: A, broken: Cell<usize> }")), 0);
        assert_eq!(naming(&with("{ backing: ManuallyDrop<A>, ends: Map<u8, A> }")), 0);
        assert_eq!(naming(&with("{ #[doc(hidden)] below: A }")), 1);
        assert_eq!(naming(&with("{ broken: Cell<usize>, inner: ManuallyDrop<A> }")), 1);
        assert_eq!(naming(&with("{ pub(crate) backing: A }")), 1);
        assert_eq!(naming(&with("(A);")), 1);
        assert_eq!(naming("struct Canary { upstream: Page }"), 1);
        assert_eq!(naming("struct Log<A: Allocator, S> { backing: A, sink: S }"), 0);
        assert_eq!(naming("struct Guard<T> { value: T }"), 0);
    }
}
