//! Records for people, and as CSV.

use super::record::{Machine, Record};
use super::suite::Format;
use crate::say::say;

/// The column names of [`Format::Csv`].
const COLUMNS: [&str; 22] = [
    "engine",
    "form",
    "version",
    "commit",
    "what",
    "batch",
    "dtype",
    "device",
    "threads",
    "passes",
    "best_s",
    "median_s",
    "p95_s",
    "spread",
    "flops_per_s",
    "bytes_per_s",
    "of_ceiling",
    "peak_bytes",
    "kernels",
    "launches",
    "cpu",
    "gpu",
];

pub fn heading(format: Format, machine: &Machine, commit: Option<&str>) {
    match format {
        Format::Table => {
            let (version, commit) = (env!("CARGO_PKG_VERSION"), commit.unwrap_or("no commit"));
            say(format_args!("{}, {} threads, {}", machine.cpu, machine.cores, machine.features.join(" ")));
            machine.gpu.iter().for_each(say);
            say(format_args!("noisefork {version} ({commit}), {} threads", rayon::current_num_threads()));
            say(format_args!(
                "{:<46} {:>5} {:>9} {:>9} {:>6} {:>8} {:>6} {:>8} {:>8} {:>5}",
                "", "batch", "median", "p95", "spread", "GFLOP/s", "GB/s", "ceiling", "memory", "calls"
            ));
        }
        Format::Jsonl => {}
        Format::Csv => say(COLUMNS.join(",")),
    }
}

pub fn line(format: Format, record: &Record) {
    match format {
        Format::Table => say(row(record)),
        Format::Jsonl => say(json(record)),
        Format::Csv => say(csv(record)),
    }
}

/// As a line of JSON.
pub fn json(record: &Record) -> String {
    serde_json::to_string(record).expect("its keys are names")
}

fn row(record: &Record) -> String {
    let or_none = |text: Option<String>| text.unwrap_or("-".to_owned());
    let form = if record.form.is_empty() { String::new() } else { format!(", {}", record.form) };
    format!(
        "{:<46} {:>5} {:>9} {:>9} {:>5.1}% {:>8} {:>6} {:>8} {:>8} {:>5}",
        record.what.clone() + &form,
        record.batch,
        seconds(record.median()),
        seconds(record.quantile(0.95)),
        100.0 * record.spread(),
        or_none(record.flops_per_s().map(giga)),
        or_none(record.bytes_per_s().map(giga)),
        or_none(record.of_ceiling().map(|part| format!("{:.0}%", 100.0 * part))),
        or_none(record.peak_bytes.map(|bytes| format!("{:.0} MB", bytes as f64 * 1e-6))),
        or_none(record.model_calls.map(|calls| calls.to_string())),
    )
}

fn giga(per_second: f64) -> String {
    format!("{:.1}", per_second * 1e-9)
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
    [
        quoted(&record.engine),
        quoted(&record.form),
        quoted(&record.version),
        quoted(record.commit.as_deref().unwrap_or_default()),
        quoted(&record.what),
        record.batch.to_string(),
        quoted(&record.dtype),
        quoted(&record.device),
        record.threads.to_string(),
        record.seconds.len().to_string(),
        record.best().to_string(),
        record.median().to_string(),
        record.quantile(0.95).to_string(),
        record.spread().to_string(),
        number(record.flops_per_s()),
        number(record.bytes_per_s()),
        number(record.of_ceiling()),
        number(record.peak_bytes.map(|bytes| bytes as f64)),
        number(record.kernels.map(|kernels| kernels as f64)),
        number(record.launches.map(|launches| launches as f64)),
        quoted(&record.machine.cpu),
        quoted(record.machine.gpu.as_deref().unwrap_or_default()),
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
