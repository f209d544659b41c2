//! Tables by their names.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::slice;

use crate::record::{Part, Record};
use crate::records::Records;

/// The tables of a name, one under the name of each machine that has such records, or that nothing is recorded.
pub fn named(name: &str, machines: &[Records]) -> String {
    let tables = machines.iter().map(|records| (records, of_machine(name, records)));
    let tables: Vec<String> = tables
        .filter(|(_, table)| !table.is_empty())
        .map(|(records, table)| match machines {
            [_] => table,
            _ => format!("**{}**\n\n{table}", records.machine),
        })
        .collect();
    if tables.is_empty() { "Nothing is recorded.\n".to_owned() } else { tables.join("\n") }
}

/// The table of a name, of the machine that was measured last among those that have such records.
pub fn newest(name: &str, machines: &[Records]) -> String {
    let has = |records: &&Records| !of_machine(name, records).is_empty();
    named(name, machines.iter().find(has).map(slice::from_ref).unwrap_or_default())
}

/// The table of a name; nothing if there is nothing to show.
fn of_machine(name: &str, records: &Records) -> String {
    match name {
        "machine" => machine(records),
        "unet" => beside(records, "unet ", true),
        "noise" => beside(records, "", false),
        "samplers" => beside(records, "sampler ", false),
        "operations" => kinds(records),
        "every operation" => beside_operations(records),
        "every sampler" => samplers(records),
        "parts" => steps(records, by_operation, usize::MAX),
        "costly shapes" => steps(records, <[Part]>::to_vec, 20),
        "batches" => batches(records),
        "sizes" => sizes(records),
        "threads" => threads(records),
        _ => panic!("no table is called {name:?}"),
    }
}

/// Three figures and a unit.
pub fn seconds(seconds: f64) -> String {
    let (scaled, unit) = match seconds {
        s if s < 0.9995e-3 => (s * 1e6, "µs"),
        s if s < 0.9995 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = 2usize.saturating_sub(scaled.max(1.0).log10().floor() as usize);
    format!("{scaled:.digits$} {unit}")
}

/// How often one is the other: two figures at least.
fn times(ratio: f64) -> String {
    let digits = if ratio < 9.95 { 2 } else { 0 };
    format!("{ratio:.digits$}×")
}

/// A table of columns, the first one of words, the others of figures; nothing if there is no row.
fn table(columns: &[String], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let marks: Vec<&str> = (0..columns.len()).map(|at| if at == 0 { "---" } else { "---:" }).collect();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}|{}|\n{rows}", line(columns), marks.join("|"))
}

fn columns<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

fn machine(records: &Records) -> String {
    let Some(first) = records.all().first() else { return String::new() };
    let machine = &first.machine;
    let commits: Vec<&str> = records.commits.iter().map(String::as_str).collect();
    let memory = machine
        .memory
        .map_or(String::new(), |bytes| format!(", {:.0} GiB", bytes as f64 / f64::from(1 << 30)));
    let threads: BTreeSet<String> = records.ours("").map(|record| record.threads.to_string()).collect();
    let passes: BTreeSet<usize> = records.all().iter().map(|record| record.seconds.len()).collect();
    let passes = match (passes.first(), passes.last()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
        (of_all, _) => of_all.map_or(String::new(), usize::to_string),
    };
    let ceilings = DTYPES.iter().filter_map(|dtype| {
        let of = |record: &Record| (record.dtype == *dtype).then_some(record.ceiling?.flops_per_s);
        let best = records.all().iter().filter_map(of).max_by(f64::total_cmp)?;
        Some(format!("{:.0} GFLOP/s in {dtype}, ", best * 1e-9))
    });
    let gpu = records.all().iter().find_map(|record| record.machine.gpu.clone());
    let bytes =
        records.all().iter().filter_map(|record| Some(record.ceiling?.bytes_per_s)).fold(0.0, f64::max);
    format!(
        "{}{}, {} threads used{memory}, at best {}{:.0} GB/s; commit {}. Each time is the best of {passes} passes.\n",
        gpu.map_or(String::new(), |gpu| format!("{gpu} beside ")),
        machine.cpu,
        threads.into_iter().collect::<Vec<_>>().join(" and "),
        ceilings.collect::<String>(),
        bytes * 1e-9,
        commits.join(", "),
    )
}

/// An engine as a column is headed.
fn engine(record: &Record) -> String {
    let form = if record.form.is_empty() { String::new() } else { format!(", {}", record.form) };
    format!("{} {}{form}", record.engine, record.version)
}

/// The engines beside ours in some records, each once.
fn engines<'r>(records: &'r Records, ours: &[&'r Record]) -> Vec<String> {
    let mut engines = Vec::new();
    for rival in ours.iter().flat_map(|ours| records.rivals(ours)) {
        let engine = engine(rival);
        if !engines.contains(&engine) {
            engines.push(engine);
        }
    }
    engines
}

/// Ours of a kind that some other engine did too: of no kind in particular, noise.
fn shared<'r>(records: &'r Records, kind: &str) -> Vec<&'r Record> {
    let noise = |record: &&Record| ["randn ", "brownian "].iter().any(|noise| record.what.starts_with(noise));
    let wanted = |record: &&Record| !kind.is_empty() || noise(record);
    records.ours(kind).filter(wanted).filter(|ours| records.rivals(ours).next().is_some()).collect()
}

/// A row for each measurement: ours, and what every other engine took, as a time and a multiple of ours.
fn beside(records: &Records, kind: &str, memory: bool) -> String {
    let ours = shared(records, kind);
    let engines = engines(records, &ours);
    let gigabytes = |record: &Record| match record.peak_bytes {
        Some(bytes) if memory => format!(", {:.1} GB", bytes as f64 * 1e-9),
        _ => String::new(),
    };
    let row = |ours: &&Record| {
        let own = format!("{}{}", seconds(ours.best()), gigabytes(ours));
        let others = engines.iter().map(|name| {
            let rival = records.rivals(ours).find(|rival| engine(rival) == *name);
            rival.map_or("–".to_owned(), |rival| {
                let (took, ratio) = (seconds(rival.best()), times(rival.best() / ours.best()));
                format!("{took} ({ratio}){}", gigabytes(rival))
            })
        });
        let what = ours.what.trim_start_matches(kind);
        let form = if ours.form.is_empty() { String::new() } else { format!(", {}", ours.form) };
        let what = format!("{what}{form}, batch {}, {}", ours.batch, ours.dtype);
        [what, own].into_iter().chain(others).collect()
    };
    let heads: Vec<String> = columns(["", "here"]).into_iter().chain(engines.clone()).collect();
    table(&heads, &ours.iter().map(row).collect::<Vec<_>>())
}

/// What is computed in.
const DTYPES: [&str; 3] = ["f32", "bf16", "f16"];
/// The names of operations that are measured by themselves.
const OPERATIONS: [&str; 6] = ["conv2d", "linear", "attention", "group_norm", "layer_norm", "concat"];

/// How many times ours each engine takes for the operations of a UNet: geometric means over their shapes.
fn kinds(records: &Records) -> String {
    let all: Vec<&Record> = OPERATIONS.iter().flat_map(|name| shared(records, &format!("{name} "))).collect();
    let engines = engines(records, &all);
    let mut rows = Vec::new();
    for dtype in DTYPES {
        for name in OPERATIONS {
            let of_kind =
                |record: &&&Record| record.dtype == dtype && record.what.split(' ').next() == Some(name);
            let ours: Vec<&&Record> = all.iter().filter(of_kind).collect();
            if ours.is_empty() {
                continue;
            }
            let mean = |engine_name: &String| {
                let logarithms: Vec<f64> = ours
                    .iter()
                    .filter_map(|ours| {
                        let rival = records.rivals(ours).find(|rival| engine(rival) == *engine_name)?;
                        Some((rival.best() / ours.best()).ln())
                    })
                    .collect();
                let mean = (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp();
                if logarithms.is_empty() {
                    "–".to_owned()
                } else {
                    format!("{} of {}", times(mean), logarithms.len())
                }
            };
            rows.push([format!("{name}, {dtype}")].into_iter().chain(engines.iter().map(mean)).collect());
        }
    }
    table(&columns([""]).into_iter().chain(engines.clone()).collect::<Vec<_>>(), &rows)
}

fn beside_operations(records: &Records) -> String {
    let tables = OPERATIONS.iter().map(|name| (name, beside(records, &format!("{name} "), false)));
    let tables = tables.filter(|(_, table)| !table.is_empty());
    tables.map(|(name, table)| format!("### {name}\n\n{table}")).collect::<Vec<_>>().join("\n")
}

/// What a step of each sampler costs beside the model.
fn samplers(records: &Records) -> String {
    let row = |record: &Record| {
        let calls = record.model_calls.map_or("–".to_owned(), |calls| calls.to_string());
        vec![record.what.trim_start_matches("sampler ").to_owned(), seconds(record.best()), calls]
    };
    let rows: Vec<_> = records.ours("sampler ").filter(|record| record.batch == 1).map(row).collect();
    table(&columns(["", "a step", "answers in a run"]), &rows)
}

/// Parts of a step taken together by their operation, in the order of their time.
pub fn by_operation(parts: &[Part]) -> Vec<Part> {
    let mut operations: Vec<Part> = Vec::new();
    for part in parts {
        let name = part.what.split(' ').next().unwrap_or_default();
        match operations.iter_mut().find(|operation| operation.what == name) {
            None => operations.push(Part { what: name.to_owned(), ..part.clone() }),
            Some(operation) => {
                operation.calls += part.calls;
                operation.seconds += part.seconds;
                operation.flops += part.flops;
                operation.bytes += part.bytes;
            }
        }
    }
    operations.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    operations
}

/// The UNets whose steps are looked into: of SD 1.5 those under guidance, of the others what there is.
pub fn taken_apart(records: &Records) -> impl Iterator<Item = &Record> {
    let wanted = |record: &&Record| pixels(record).is_none_or(|side| side == 512 && record.batch == 2);
    records.ours("unet ").filter(|record| !record.parts.is_empty()).filter(wanted)
}

/// For every UNet of its own size, where its fastest step's time went.
fn steps(records: &Records, parts: fn(&[Part]) -> Vec<Part>, most: usize) -> String {
    let mut text = String::new();
    for record in taken_apart(records) {
        let Some(ceiling) = record.ceiling else { continue };
        let whole: f64 = record.parts.iter().map(|part| part.seconds).sum();
        let row = |part: &Part| {
            let rate = |amount: u64| {
                let rate = amount as f64 / part.seconds * 1e-9;
                if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
            };
            vec![
                part.what.clone(),
                part.calls.to_string(),
                seconds(part.seconds),
                format!("{:.1} %", 100.0 * part.seconds / whole),
                rate(part.flops),
                rate(part.bytes),
                format!("{:.0} %", 100.0 * ceiling.floor(part.flops, part.bytes) / part.seconds),
            ]
        };
        let heads = columns(["", "calls", "time", "share", "GFLOP/s", "GB/s", "of the ceiling"]);
        let rows: Vec<_> = parts(&record.parts).iter().take(most).map(row).collect();
        let (what, peak) = (record.what.trim_start_matches("unet "), ceiling.flops_per_s * 1e-9);
        let memory = ceiling.bytes_per_s * 1e-9;
        let _ = write!(
            text,
            "{}{what}, batch {}, {}, beside {peak:.0} GFLOP/s and {memory:.0} GB/s:\n\n{}",
            if text.is_empty() { "" } else { "\n" },
            record.batch,
            record.dtype,
            table(&heads, &rows)
        );
    }
    text
}

/// The SD 1.5 UNet's records in both types, by what grows.
pub fn growth<'r, K: Ord>(
    records: impl Iterator<Item = &'r Record>,
    grows: impl Fn(&Record) -> Option<K>,
) -> Vec<(K, &'r Record)> {
    let plain = records.filter(|record| record.form.is_empty());
    let mut found: Vec<(K, &Record)> = plain.filter_map(|record| Some((grows(record)?, record))).collect();
    found.sort_by(|a, b| (&a.1.dtype, &a.0).cmp(&(&b.1.dtype, &b.0)));
    found
}

/// The pixels to a side of a UNet's square picture.
pub fn pixels(record: &Record) -> Option<usize> {
    let side = record.what.strip_prefix("unet sd15 ")?.split_once('x')?.0;
    Some(8 * side.parse::<usize>().ok()?)
}

/// Rows of what grows, each with how many times the row before it costs.
fn grown<K: Ord + ToString>(what: &str, found: &[(K, &Record)]) -> String {
    let row = |at: usize| {
        let (grows, record) = &found[at];
        let before =
            at.checked_sub(1).map(|before| found[before].1).filter(|before| before.dtype == record.dtype);
        vec![
            format!("{}, {}", record.dtype, grows.to_string()),
            seconds(record.best()),
            seconds(record.best() / record.batch as f64),
            before.map_or(String::new(), |before| times(record.best() / before.best())),
        ]
    };
    let several = found.iter().any(|(grows, _)| found.iter().any(|(other, _)| other != grows));
    let rows: Vec<_> = (0..if several { found.len() } else { 0 }).map(row).collect();
    table(&columns([what, "time", "a picture", "beside the row above"]), &rows)
}

fn batches(records: &Records) -> String {
    let one_size = |record: &Record| (pixels(record) == Some(512)).then_some(record.batch);
    grown("batch", &growth(records.ours("unet sd15 "), one_size))
}

fn sizes(records: &Records) -> String {
    let one_picture = |record: &Record| pixels(record).filter(|_| record.batch == 1);
    grown("pixels to a side", &growth(records.ours("unet sd15 "), one_picture))
}

fn threads(records: &Records) -> String {
    let ours = records.all().iter().filter(|record| record.engine == "noisefork");
    let one = |record: &Record| (pixels(record) == Some(512) && record.batch == 1).then_some(record.threads);
    grown("threads", &growth(ours, one))
}

#[cfg(test)]
mod tests {
    use super::{seconds, times};

    #[test]
    fn figures_are_short() {
        let texts = [1.234e-5, 9.996e-4, 0.0456, 0.9996, 6.554, 12.34].map(seconds);
        assert_eq!(texts, ["12.3 µs", "1.00 ms", "45.6 ms", "1.00 s", "6.55 s", "12.3 s"]);
        assert_eq!([0.5, 1.4449, 23.4].map(times), ["0.50×", "1.44×", "23×"]);
    }
}
