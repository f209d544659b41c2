//! What moved since an earlier run.

use std::collections::HashMap;
use std::path::Path;

use noisefork::error::{Error, Result};

use super::case::Times;
use super::record::Record;
use super::table::seconds;

/// Medians that are closer than this are the same, however small their spread.
const TOLERANCE: f64 = 0.02;

/// What became of a time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Faster,
    Slower,
    Same,
}

/// A time has moved if the middle halves of the old and the new measurements have nothing in common.
fn verdict(before: &Times, after: &Times) -> Verdict {
    if (after.median_s / before.median_s - 1.0).abs() < TOLERANCE {
        Verdict::Same
    } else if after.upper_quartile_s < before.lower_quartile_s {
        Verdict::Faster
    } else if after.lower_quartile_s > before.upper_quartile_s {
        Verdict::Slower
    } else {
        Verdict::Same
    }
}

/// Reads lines of JSON.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let refuse =
        |got: String| Error::File { path: path.into(), expected: "records of noisefork bench".into(), got };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let records = text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str);
    records.collect::<std::result::Result<_, _>>().map_err(|error| refuse(error.to_string()))
}

/// Which of `new` moved beyond the noise, and how the machine did in the meantime.
pub fn report(old: &[Record], new: &[Record]) -> String {
    // Of two records of the same, the last one counts.
    let old: HashMap<_, &Record> = old.iter().map(|record| (record.key(), record)).collect();
    let pairs: Vec<_> = new.iter().filter_map(|new| Some((*old.get(&new.key())?, new))).collect();
    let mut lines = vec![format!("{} of {} measurements are in both", pairs.len(), new.len())];
    if let Some((before, after)) = pairs.first() {
        if before.machine.cpu != after.machine.cpu {
            lines.push(format!("note: that was another machine, {}", before.machine.cpu));
        }
        let (old, new) = (&before.ceiling, &after.ceiling);
        lines.push(format!(
            "the machine: arithmetic {:+.1}%, memory {:+.1}%",
            change(old.flops_per_s, new.flops_per_s),
            change(old.bytes_per_s, new.bytes_per_s)
        ));
    }
    let moved: Vec<String> = pairs.iter().filter_map(|(old, new)| moved(old, new)).collect();
    let same = pairs.len() - moved.len();
    lines.extend(moved);
    lines.push(format!("{same} did not move beyond the noise"));
    lines.join("\n")
}

/// A line about a measurement that moved.
fn moved(old: &Record, new: &Record) -> Option<String> {
    let word = match verdict(&old.times, &new.times) {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Same => return None,
    };
    let (before, after) = (old.times.median_s, new.times.median_s);
    Some(format!(
        "{word} {:<28} {:<26} {} -> {}, {:+.1}%",
        new.name,
        new.shape,
        seconds(before),
        seconds(after),
        change(before, after)
    ))
}

/// In percent.
fn change(old: f64, new: f64) -> f64 {
    100.0 * (new / old - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(lower_quartile_s: f64, median_s: f64, upper_quartile_s: f64) -> Times {
        let (best_s, p95_s) = (lower_quartile_s, upper_quartile_s);
        Times { iterations: 9, best_s, lower_quartile_s, median_s, upper_quartile_s, p95_s }
    }

    #[test]
    fn a_time_moves_when_its_middle_half_does() {
        let old = times(0.9, 1.0, 1.1);
        assert_eq!(verdict(&old, &times(1.0, 1.2, 1.3)), Verdict::Same);
        assert_eq!(verdict(&old, &times(1.15, 1.2, 1.3)), Verdict::Slower);
        assert_eq!(verdict(&old, &times(0.7, 0.8, 0.85)), Verdict::Faster);
        assert_eq!(verdict(&times(1.0, 1.0, 1.0), &times(1.01, 1.01, 1.01)), Verdict::Same);
    }
}
