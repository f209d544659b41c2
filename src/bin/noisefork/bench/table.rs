//! Records for people, and as CSV.

use super::machine::Machine;
use super::record::Record;
use super::suite::Format;
use crate::say::say;

/// The column names of [`Format::Csv`].
const COLUMNS: [&str; 18] = [
    "bench",
    "name",
    "shape",
    "device",
    "dtype",
    "threads",
    "iterations",
    "best_s",
    "median_s",
    "p95_s",
    "spread",
    "flops_per_s",
    "bytes_per_s",
    "of_ceiling",
    "peak_memory",
    "model_calls",
    "cpu",
    "commit",
];

pub fn heading(format: Format, machine: &Machine, first: &str) {
    match format {
        Format::Table => {
            let commit = machine.commit.as_deref().unwrap_or("no commit");
            say(format_args!("{}, {} threads, {}", machine.cpu, machine.cores, machine.features.join(" ")));
            say(format_args!("noisefork {} ({commit}); {first}", machine.version));
            say(format_args!(
                "{:<28} {:<26} {:>10} {:>10} {:>7} {:>8} {:>7} {:>8} {:>6}",
                "", "", "median", "p95", "spread", "GFLOP/s", "GB/s", "ceiling", "calls"
            ));
        }
        Format::Jsonl => {}
        Format::Csv => say(COLUMNS.join(",")),
    }
}

pub fn line(format: Format, record: &Record) {
    match format {
        Format::Table => say(row(record)),
        Format::Jsonl => say(record.to_json()),
        Format::Csv => say(csv(record)),
    }
}

fn row(record: &Record) -> String {
    let times = &record.times;
    format!(
        "{:<28} {:<26} {:>10} {:>10} {:>6.1}% {:>8} {:>7} {:>8} {:>6}",
        record.name,
        record.shape,
        seconds(times.median_s),
        seconds(times.p95_s),
        100.0 * times.spread(),
        giga(record.flops_per_s()),
        giga(record.bytes_per_s()),
        record.of_ceiling().map_or("-".to_owned(), |part| format!("{:.0}%", 100.0 * part)),
        record.model_calls.map_or("-".to_owned(), |calls| calls.to_string()),
    )
}

fn giga(per_second: Option<f64>) -> String {
    per_second.map_or("-".to_owned(), |rate| format!("{:.1}", rate * 1e-9))
}

/// Four figures and a unit.
pub fn seconds(seconds: f64) -> String {
    let (scaled, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = 3usize.saturating_sub(scaled.max(1.0).log10().floor() as usize);
    format!("{scaled:.digits$} {unit}")
}

fn csv(record: &Record) -> String {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let Record { times, machine, .. } = record;
    [
        quoted(&record.bench),
        quoted(&record.name),
        quoted(&record.shape),
        quoted(&record.device),
        quoted(&record.dtype),
        record.threads.to_string(),
        times.iterations.to_string(),
        times.best_s.to_string(),
        times.median_s.to_string(),
        times.p95_s.to_string(),
        times.spread().to_string(),
        number(record.flops_per_s()),
        number(record.bytes_per_s()),
        number(record.of_ceiling()),
        number(record.peak_memory.map(|bytes| bytes as f64)),
        number(record.model_calls.map(|calls| calls as f64)),
        quoted(&machine.cpu),
        quoted(machine.commit.as_deref().unwrap_or_default()),
    ]
    .join(",")
}

/// A field of RFC 4180.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{quoted, seconds};

    #[test]
    fn times_have_four_figures() {
        for (time, text) in [
            (1.5e-7, "0.150 us"),
            (1.2346e-5, "12.35 us"),
            (0.0146, "14.60 ms"),
            (4.6, "4.600 s"),
            (1234.0, "1234 s"),
        ] {
            assert_eq!(seconds(time), text);
        }
    }

    #[test]
    fn fields_with_commas_are_quoted() {
        assert_eq!([quoted("a"), quoted("a,b"), quoted("a\"b")], ["a", "\"a,b\"", "\"a\"\"b\""]);
    }
}
