//! A machine's records of one day, their rounds taken together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::record::Record;

/// Each measurement once, with the passes of all its rounds, in the order in which they were first taken.
pub struct Records {
    /// The machine's plain name.
    pub machine: String,
    /// All that anything was measured at.
    pub commits: BTreeSet<String>,
    records: Vec<Record>,
}

impl Records {
    /// Those of each machine's newest day, `MACHINE/DATE`; the machine that was measured last comes first.
    pub fn newest(root: &Path) -> Vec<Self> {
        let folders = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let newest = |machine: &PathBuf| folders(machine).into_iter().max();
        let mut days: Vec<_> = folders(root).iter().filter_map(newest).collect();
        days.sort_by_key(|day| (name(day), name(day.parent().unwrap())));
        days.iter().rev().map(|day| Self::of(name(day.parent().unwrap()), lines(day))).collect()
    }

    pub fn of(machine: String, lines: Vec<Record>) -> Self {
        let commits = lines.iter().filter_map(|line| line.commit.clone()).collect();
        let mut records: Vec<Record> = Vec::new();
        for line in lines {
            match records.iter_mut().find(|record| record.key() == line.key()) {
                None => records.push(line),
                Some(record) => {
                    // Its operations and ceiling are those of the round with the fastest pass.
                    if line.best() < record.best() {
                        (record.parts, record.ceiling) = (line.parts, line.ceiling);
                    }
                    record.peak_bytes = record.peak_bytes.max(line.peak_bytes);
                    record.seconds.extend(line.seconds);
                }
            }
        }
        Records { machine, commits, records }
    }

    pub fn all(&self) -> &[Record] {
        &self.records
    }

    /// The crate's own, of a kind, that is with such a beginning of what was done, on all threads that any was measured on.
    pub fn ours(&self, kind: &str) -> impl Iterator<Item = &Record> {
        let threads = self.records.iter().map(|record| record.threads).max().unwrap_or(0);
        self.records.iter().filter(move |record| {
            record.engine == "noisefork" && record.what.starts_with(kind) && record.threads == threads
        })
    }

    /// What other engines took for the same.
    pub fn rivals(&self, ours: &Record) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| {
            record.engine != "noisefork"
                && (&record.what, record.batch, &record.dtype, &record.device, record.threads)
                    == (&ours.what, ours.batch, &ours.dtype, &ours.device, ours.threads)
        })
    }
}

/// What the files of a day hold.
fn lines(day: &Path) -> Vec<Record> {
    let mut files: Vec<_> = fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (line, number) in text.lines().zip(1..) {
            let record: Record = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}:{number}: {error}", file.display()));
            let sound = |seconds: &f64| seconds.is_finite() && *seconds > 0.0;
            assert!(!record.seconds.is_empty() && record.seconds.iter().all(sound), "{}", file.display());
            lines.push(record);
        }
    }
    lines
}
