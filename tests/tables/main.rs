//! The tables and plots of README and docs, made of what `record/` holds: `TABLES=write cargo test --release --test tables`.
//!
//! A table stands between `<!-- NAME -->` and `<!-- end -->`, one for each machine, of its newest day. Where only one is
//! wanted, `<!-- NAME, newest -->`, it is of the machine that was measured last among those that have such records. So are
//! the plots.

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
use tempfile::TempDir;

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
fn filled(text: &str, machines: &[Records]) -> String {
    let mut filled = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        filled += line;
        filled += "\n";
        let name = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(name) = name else { continue };
        assert!(lines.any(|line| line == "<!-- end -->"), "no end of {name}");
        let tables = match name.strip_suffix(", newest") {
            Some(name) => tables::newest(name, machines),
            None => tables::named(name, machines),
        };
        filled += &format!("\n{tables}\n<!-- end -->\n");
    }
    filled
}

#[test]
fn tables_show_what_was_recorded() {
    let machines = Records::newest(&path("record"));
    for file in FILES {
        let text = fs::read_to_string(path(file)).unwrap();
        assert!(text.contains("<!-- end -->"), "{file} has no table");
        expect(file, &filled(&text, &machines));
    }
}

#[test]
fn plots_show_what_was_recorded() {
    for (name, svg) in plots::all(&Records::newest(&path("record"))) {
        expect(&format!("docs/{name}.svg"), &svg);
    }
}

#[test]
fn tables_are_filled_between_their_marks_alone() {
    let text = "a\n<!-- machine -->\nold\n<!-- end -->\nb\n";
    assert_eq!(filled(text, &[]), "a\n<!-- machine -->\n\nNothing is recorded.\n\n<!-- end -->\nb\n");
}

/// Two machines, one with two days; a measurement's rounds are one.
#[test]
fn each_machine_has_its_table_and_the_newest_comes_first() {
    let folder = TempDir::new().unwrap();
    let write = |day: &str, file: &str, steps: &[f64]| {
        let day = folder.path().join(day);
        fs::create_dir_all(&day).unwrap();
        let line = |step: &f64| {
            format!(
                r#"{{"engine": "noisefork", "version": "1", "commit": "c", "what": "sampler euler", "batch": 1,
                "dtype": "f32", "device": "cpu", "threads": 2, "seconds": [{step}], "model_calls": 20, "machine":
                {{"cpu": "", "cores": 2, "memory": null, "architecture": "", "features": [], "system": ""}}}}"#
            )
        };
        let lines: Vec<String> = steps.iter().map(|step| line(step).replace('\n', "")).collect();
        fs::write(day.join(file), lines.join("\n")).unwrap();
    };
    write("old/2026-01-01", "a.jsonl", &[1.0]);
    write("old/2026-01-02", "a.jsonl", &[2.0]);
    write("new/2026-01-03", "a.jsonl", &[4.0, 3.0]);
    write("new/2026-01-03", "not-a-record.txt", &[5.0]);
    // Measured last, but nothing of this kind.
    fs::create_dir_all(folder.path().join("newest/2026-01-04")).unwrap();
    let machines = Records::newest(folder.path());
    let table = |seconds: &str| {
        format!("|  | a step | answers in a run |\n|---|---:|---:|\n| euler | {seconds} s | 20 |\n")
    };
    let both = format!("**new**\n\n{}\n**old**\n\n{}", table("3.00"), table("2.00"));
    let mark = |name: &str, table: &str| format!("<!-- {name} -->\n\n{table}\n<!-- end -->\n");
    for (name, table) in [("every sampler", both), ("every sampler, newest", table("3.00"))] {
        assert_eq!(filled(&mark(name, ""), &machines), mark(name, &table));
    }
}
