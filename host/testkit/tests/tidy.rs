//! The house's limits, checked over the repository's files: what a reader would stumble over is a failing test.

use std::path::{Path, PathBuf};

use relive_testkit::guests::workspace;

const FILE_LINES: usize = 500;
const TEST_FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;
/// Folders that hold what was built.
const BUILT: [&str; 3] = ["target", "node_modules", "out"];
/// Files outside of test folders that may hold `.unwrap()`, `.expect(` and `panic!`: how their paths begin, and why.
const MAY_PANIC: [(&str, &str); 1] =
    [("host/store/src/contract/", "the contract suite is test code, behind a feature that only tests ask for")];

struct Source {
    /// From the workspace's root.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.contains("/testkit/")
            || self.path.ends_with("_test.rs")
            || self.path.ends_with("tests.rs")
            || ["bench/", "examples-wasm/"].iter().any(|folder| self.path.starts_with(folder))
    }

    /// An example of a crate, or a test.
    fn is_aside(&self) -> bool {
        self.is_test() || self.path.contains("/examples/")
    }

    /// The lines before the first test module, counted from 1.
    fn body(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

fn collect(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && !BUILT.contains(&name) {
            collect(&path, root, sources);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            let path = path.strip_prefix(root).expect("below the root").display().to_string();
            sources.push(Source { path, text });
        }
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = workspace();
    let mut sources = Vec::new();
    for folder in folders {
        if root.join(folder).is_dir() {
            collect(&root.join(folder), &root, &mut sources);
        }
    }
    assert!(sources.len() > 50 || folders.len() == 1, "the repository is not where it is looked for");
    sources
}

const ALL: [&str; 4] = ["host", "guest-sdk", "examples-wasm", "bench"];
const OURS: [&str; 2] = ["host", "guest-sdk"];

fn none(rows: &[String], rule: &str) {
    assert!(rows.is_empty(), "{rule}:\n  {}", rows.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources(&OURS).into_iter().filter(|s| !s.text.trim_start().starts_with("//!"));
    let rows: Vec<String> = silent.map(|s| s.path).collect();
    none(&rows, "begin with `//!`: what the file is for, what it owns, what it must not know");
}

#[test]
fn files_are_short() {
    let limit = |s: &Source| if s.is_aside() { TEST_FILE_LINES } else { FILE_LINES };
    let long = sources(&ALL).into_iter().filter(|s| s.text.lines().count() > limit(s));
    let rows: Vec<String> = long.map(|s| format!("{} {} lines", s.path, s.text.lines().count())).collect();
    none(&rows, "files have up to 500 lines, tests up to 800");
}

/// Whether the line begins a function, by the words before `fn`.
fn begins_function(line: &str) -> bool {
    let Some((before, _)) = line.trim_start().split_once("fn ") else { return false };
    let known = |word: &str| matches!(word, "const" | "async" | "unsafe" | "extern") || word.starts_with("pub");
    before.split_whitespace().all(|word| known(word) || word.ends_with(')') || word.starts_with('"'))
}

#[test]
fn functions_fit_on_a_screen() {
    let mut rows = Vec::new();
    for source in sources(&OURS).into_iter().filter(|s| !s.is_aside()) {
        let mut open: Option<(usize, usize)> = None;
        for (at, line) in source.body() {
            let indent = line.len() - line.trim_start().len();
            if begins_function(line) {
                open = Some((at, indent));
            } else if let Some((begin, outer)) = open
                && indent == outer
                && line.trim_end() == format!("{}}}", " ".repeat(outer))
            {
                if at + 1 - begin > FUNCTION_LINES {
                    rows.push(format!("{}:{begin} {} lines", source.path, at + 1 - begin));
                }
                open = None;
            }
        }
    }
    none(&rows, "functions have up to 70 lines");
}

#[test]
fn nothing_panics_outside_of_tests() {
    let mut rows = Vec::new();
    for source in sources(&["host"]).into_iter().filter(|s| !s.is_aside()) {
        if MAY_PANIC.iter().any(|(path, _)| source.path.starts_with(path)) {
            continue;
        }
        for (at, line) in source.body() {
            let panics = [".unwrap()", ".expect(", "panic!("].iter().any(|text| line.contains(text));
            if panics && !line.trim_start().starts_with("//") {
                rows.push(format!("{}:{at} {}", source.path, line.trim()));
            }
        }
    }
    none(&rows, "no unwrap, expect or panic where input or a fault could reach it");
}

#[test]
fn nothing_is_ignored_or_left_to_do() {
    // In two pieces, so that this file does not find itself.
    let words = [concat!("#[", "ignore"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    let mut rows = Vec::new();
    for source in sources(&ALL) {
        for (at, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                rows.push(format!("{}:{} {}", source.path, at + 1, line.trim()));
            }
        }
    }
    none(&rows, "tests run, and code is finished");
}
