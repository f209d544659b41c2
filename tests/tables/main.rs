//! The tables and plots of README and docs, made of what `record/` holds: `TABLES=write cargo test --release --test tables`.
//!
//! A table stands between `<!-- NAME -->` and `<!-- end -->`. The records are those of the newest day.

mod plots;
#[path = "../../src/bin/noisefork/bench/record.rs"]
#[allow(dead_code, reason = "what makes records needs more of it")]
mod record;
mod records;
mod svg;
mod tables;

use std::path::PathBuf;
use std::{env, fs};

use records::Records;

/// Files with tables.
const FILES: [&str; 2] = ["README.md", "docs/performance.md"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Writes a file if it is asked for, and in any case fails unless it holds `expected`.
fn expect(name: &str, expected: &str) {
    if env::var_os("TABLES").is_some_and(|value| value == "write") {
        fs::write(path(name), expected).unwrap();
    }
    let found = fs::read_to_string(path(name)).unwrap_or_default();
    assert!(
        found == expected,
        "{name} does not show what record/ holds: TABLES=write cargo test --release --test tables"
    );
}

/// `text` with every table made anew.
fn filled(text: &str, records: &Records) -> String {
    let mut filled = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        filled += line;
        filled += "\n";
        let name = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(name) = name else { continue };
        assert!(lines.any(|line| line == "<!-- end -->"), "no end of {name}");
        filled += &format!("\n{}\n<!-- end -->\n", tables::named(name, records));
    }
    filled
}

#[test]
fn tables_show_what_was_recorded() {
    let records = Records::newest(&path("record"));
    for file in FILES {
        let text = fs::read_to_string(path(file)).unwrap();
        assert!(text.contains("<!-- end -->"), "{file} has no table");
        expect(file, &filled(&text, &records));
    }
}

#[test]
fn plots_show_what_was_recorded() {
    let records = Records::newest(&path("record"));
    for (name, svg) in plots::all(&records) {
        expect(&format!("docs/{name}.svg"), &svg);
    }
}

#[test]
fn tables_are_filled_between_their_marks_alone() {
    let text = "a\n<!-- machine -->\nold\n<!-- end -->\nb\n";
    let none = Records::of(Vec::new());
    assert_eq!(filled(text, &none), "a\n<!-- machine -->\n\nNothing is recorded.\n\n<!-- end -->\nb\n");
}
