//! What moved since an earlier run.

use std::collections::HashMap;
use std::path::Path;

use noisefork::error::{Error, Result};

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

/// By what factors the machine alone may have changed a time, were it bound by the one ceiling or the other: the least and
/// the most, 1 among them, since other work on a machine comes and goes between a ceiling's measurement and a pass.
fn drift(old: &Record, new: &Record) -> (f64, f64) {
    let (Some(old), Some(new)) = (old.ceiling, new.ceiling) else { return (1.0, 1.0) };
    let factors = [1.0, old.flops_per_s / new.flops_per_s, old.bytes_per_s / new.bytes_per_s];
    (factors.into_iter().fold(1.0, f64::min), factors.into_iter().fold(1.0, f64::max))
}

/// A time has moved if the middle halves of the old and the new measurements have nothing in common, even after what the
/// machine's own drift may have done to the old one.
fn verdict(old: &Record, new: &Record) -> Verdict {
    let (least, most) = drift(old, new);
    let (before, after) = (old.median(), new.median());
    if new.quantile(0.75) < least * old.quantile(0.25) && after < least * before * (1.0 - TOLERANCE) {
        Verdict::Faster
    } else if new.quantile(0.25) > most * old.quantile(0.75) && after > most * before * (1.0 + TOLERANCE) {
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
    let records: Vec<Record> =
        records.collect::<std::result::Result<_, _>>().map_err(|error| refuse(error.to_string()))?;
    if records.iter().any(|record| record.seconds.is_empty()) {
        return Err(refuse("one without seconds".into()));
    }
    Ok(records)
}

/// Which of `new` moved beyond the noise, and how the machine did in the meantime.
pub fn report(old: &[Record], new: &[Record]) -> String {
    // Of two records of the same, the last one counts.
    let old: HashMap<_, &Record> = old.iter().map(|record| (record.key(), record)).collect();
    let pairs: Vec<_> = new.iter().filter_map(|new| Some((*old.get(&new.key())?, new))).collect();
    let mut lines = vec![format!("{} of {} measurements are in both", pairs.len(), new.len())];
    let names = |record: &Record| (record.machine.cpu.clone(), record.machine.gpu.clone());
    if let Some((before, _)) = pairs.iter().find(|(before, after)| names(before) != names(after)) {
        let (cpu, gpu) = names(before);
        lines.push(format!("note: that was another machine, {}", gpu.unwrap_or(cpu)));
    }
    let mean_change = |of: fn(&Record) -> Option<f64>| {
        let logarithms: Vec<f64> =
            pairs.iter().filter_map(|(old, new)| Some((of(new)? / of(old)?).ln())).collect();
        100.0 * ((logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64).exp() - 1.0)
    };
    lines.push(format!(
        "the machine beside them: arithmetic {:+.1}%, memory {:+.1}%",
        mean_change(|record| Some(record.ceiling?.flops_per_s)),
        mean_change(|record| Some(record.ceiling?.bytes_per_s))
    ));
    let moved: Vec<String> = pairs.iter().filter_map(|(old, new)| moved(old, new)).collect();
    let same = pairs.len() - moved.len();
    lines.extend(moved);
    lines.push(format!("{same} did not move beyond the noise and the machine's drift"));
    lines.join("\n")
}

/// A line about a measurement that moved.
fn moved(old: &Record, new: &Record) -> Option<String> {
    let word = match verdict(old, new) {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Same => return None,
    };
    let (before, after) = (old.median(), new.median());
    let percent = 100.0 * (after / before - 1.0);
    let (what, batch) = (&new.what, new.batch);
    Some(format!("{word} {what:<46} {batch:>5} {} -> {}, {percent:+.1}%", seconds(before), seconds(after)))
}

#[cfg(test)]
mod tests {
    use super::super::record::{Ceiling, Machine};
    use super::*;

    /// Whose quartiles and median are these, on a machine of such ceilings.
    fn record(seconds: [f64; 3], flops_per_s: f64, bytes_per_s: f64) -> Record {
        Record {
            engine: "noisefork".into(),
            form: String::new(),
            version: "0".into(),
            commit: None,
            what: "linear 8 to 8".into(),
            batch: 1,
            dtype: "f32".into(),
            device: "cpu".into(),
            threads: 1,
            seconds: seconds.to_vec(),
            peak_bytes: None,
            flops: None,
            bytes: None,
            model_calls: None,
            kernels: None,
            launches: None,
            parts: Vec::new(),
            ceiling: Some(Ceiling { flops_per_s, bytes_per_s }),
            machine: Machine {
                cpu: "a".into(),
                cores: 1,
                memory: None,
                architecture: "x86_64".into(),
                features: Vec::new(),
                system: "linux".into(),
                gpu: None,
            },
        }
    }

    #[test]
    fn a_time_moves_when_its_middle_half_does() {
        let at = |lower, median, upper| record([lower, median, upper], 100.0, 10.0);
        let old = at(0.9, 1.0, 1.1);
        assert_eq!(verdict(&old, &at(1.0, 1.2, 1.3)), Verdict::Same);
        assert_eq!(verdict(&old, &at(1.15, 1.2, 1.3)), Verdict::Slower);
        assert_eq!(verdict(&old, &at(0.7, 0.8, 0.85)), Verdict::Faster);
        assert_eq!(verdict(&at(1.0, 1.0, 1.0), &at(1.01, 1.01, 1.01)), Verdict::Same);
    }

    #[test]
    fn what_the_machine_did_is_no_movement() {
        let old = record([1.0, 1.0, 1.0], 100.0, 10.0);
        let slower = [1.25, 1.25, 1.25];
        assert_eq!(verdict(&old, &record(slower, 100.0, 10.0)), Verdict::Slower);
        // A fifth slower in either respect: that may be all there is to it.
        assert_eq!(verdict(&old, &record(slower, 80.0, 10.0)), Verdict::Same);
        assert_eq!(verdict(&old, &record(slower, 100.0, 8.0)), Verdict::Same);
        assert_eq!(verdict(&old, &record([1.6, 1.6, 1.6], 80.0, 10.0)), Verdict::Slower);
        // A faster machine is no excuse.
        assert_eq!(verdict(&old, &record(slower, 125.0, 10.0)), Verdict::Slower);
        assert_eq!(verdict(&old, &record([0.8, 0.8, 0.8], 125.0, 10.0)), Verdict::Same);
        assert!(report(&[old], &[record(slower, 100.0, 10.0)]).contains("slower linear 8 to 8"));
    }
}
