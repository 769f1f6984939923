//! Words that no file of the project holds: paths of one machine, hosts of registries, emoji.

use crate::tree::{File, Tree};

/// Rule: no paths of one machine, in binary files neither (a recorded trace carries its command line).
pub fn no_file_names_a_machine(tree: &Tree) -> Vec<String> {
    let paths = ["/ho_me/", "/ro_ot/", "/Us_ers/", "/wo_rk/", "/fa_rm/", "/tmp/ba_sh_jobs", ":\\Us_ers\\"];
    tree.files.iter().flat_map(|file| holding(file, &paths, "a path of one machine")).collect()
}

/// Rule: no host of a package registry: which one serves the packages is the reader's business.
pub fn no_file_names_a_registry(tree: &Tree) -> Vec<String> {
    let hosts = [
        "://cra_tes.io",
        "static.cra_tes.io",
        "index.cra_tes.io",
        "py_pi.org",
        "python_hosted.org",
        "deb.de_bian.org",
        "registry.np_mjs",
        "proxy.go_lang",
    ];
    tree.files.iter().flat_map(|file| holding(file, &hosts, "a registry's host")).collect()
}

/// Where one of `words` stands. Each word is written with a `_` that is taken out, so that this file
/// does not hold it.
fn holding(file: &File, words: &[&str], what: &str) -> Vec<String> {
    let mut found = Vec::new();
    let text = String::from_utf8_lossy(&file.bytes);
    for word in words.iter().map(|word| word.replacen('_', "", 1)) {
        let hits = text.match_indices(&word);
        found.extend(hits.map(|(at, _)| format!("{}:{}: `{word}` is {what}", file.path, line(&text[..at]))));
    }
    found
}

/// Rule: no emoji. Arrows, boxes and the marks of mathematics are no emoji.
pub fn no_file_holds_an_emoji(tree: &Tree) -> Vec<String> {
    tree.files.iter().flat_map(emoji).collect()
}

fn emoji(file: &File) -> Vec<String> {
    let is_emoji = |c: char| {
        matches!(u32::from(c), 0x1F000..=0x1FAFF | 0xFE0F | 0x2600..=0x2604 | 0x2614 | 0x26A0 | 0x26A1
            | 0x2705 | 0x2728 | 0x274C | 0x274E | 0x2753..=0x2757 | 0x2764 | 0x2B50 | 0x2B55 | 0x231A | 0x231B | 0x23E9..=0x23F3)
    };
    let text = file.text().unwrap_or_default();
    let hits = text.char_indices().filter(|&(_, c)| is_emoji(c));
    hits.map(|(at, c)| format!("{}:{}: {}", file.path, line(&text[..at]), c.escape_unicode())).collect()
}

/// The line that the text after `before` stand on.
fn line(before: &str) -> usize {
    before.matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "a.md".into(), bytes: text.into() }
    }

    #[test]
    fn a_forbidden_word_is_named_with_its_line() {
        let bad = file("fine\nsee /srv/x and\n/opt/y");
        assert_eq!(holding(&bad, &["/op_t/"], "a test"), ["a.md:3: `/opt/` is a test"]);
        let mut binary = file("\0/srv/");
        binary.bytes.insert(0, 0xFF);
        assert_eq!(holding(&binary, &["/s_rv/"], "a test").len(), 1);
    }

    #[test]
    fn the_lists_name_what_they_are_for() {
        let tree = |text: String| Tree {
            root: "/".into(),
            files: vec![file(&text)],
            sources: Vec::new(),
            members: Vec::new(),
        };
        let machine = ["", "home", "ada", "terrace"].join("/");
        assert_eq!(no_file_names_a_machine(&tree(machine)).len(), 1);
        let registry = ["https:", "", "static.crates"].join("/") + ".io/x";
        assert_eq!(no_file_names_a_registry(&tree(registry)).len(), 1);
        let fine = "registry+https://github.com/rust-lang/crates.io-index /usr/lib /proc/self".to_owned();
        assert!(no_file_names_a_registry(&tree(fine.clone())).is_empty());
        assert!(no_file_names_a_machine(&tree(fine)).is_empty());
    }

    #[test]
    fn emoji_are_named_and_arrows_are_not() {
        assert_eq!(emoji(&file("a\n\u{1F600}")), ["a.md:2: \\u{1f600}"]);
        assert_eq!(emoji(&file("\u{2705}")).len(), 1);
        assert!(emoji(&file("─▶ ≤ ✓ × ┌┐ “ä”")).is_empty());
    }
}
