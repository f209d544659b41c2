//! The table of `docs/kernels-floor.md`: what one denoising step must cost.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use super::Preset;
use crate::cuda::planned::{MULTIPROCESSORS, planned};
use crate::tensor::DType;
use crate::trace::Event;

/// Of an H100 SXM: dense f16 on tensor cores, and memory. From its data sheet.
const FLOPS: f64 = 989e12;
const BYTES: f64 = 3.35e12;
/// Guidance's two halves of one picture.
const BATCH: usize = 2;
/// Of a prompt.
const TOKENS: usize = 77;
/// Operations by what they have in common.
const KINDS: [(&str, &[&str]); 4] = [
    ("products", &["conv2d", "linear"]),
    ("attention", &["attention"]),
    ("norms", &["group_norm", "layer_norm"]),
    ("copies", &["concat", "rows"]),
];

/// An operation, and how often a step computes it.
struct Row {
    name: String,
    times: usize,
    flops: f64,
    bytes: f64,
    plan: String,
}

impl Row {
    /// Seconds.
    fn floor(&self) -> f64 {
        (self.flops / FLOPS).max(self.bytes / BYTES)
    }
}

/// Those of a step that are called by one of these names, the costliest first.
fn rows(step: &[Event], names: &[&str]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for Event { operation, flops, bytes, .. } in step {
        let name = operation.to_string();
        match rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.times += 1,
            None if names.contains(&operation.name()) => {
                let (flops, bytes) = (*flops as f64, *bytes as f64);
                rows.push(Row { name, times: 1, flops, bytes, plan: planned(operation) });
            }
            None => {}
        }
    }
    let whole = |row: &Row| row.times as f64 * row.floor();
    rows.sort_by(|a, b| whole(b).total_cmp(&whole(a)));
    rows
}

fn table(title: &str, model: Preset, side: usize) -> String {
    let step = model.config().operations(DType::F16, BATCH, [side, side], TOKENS).expect("of its own size");
    let kinds = KINDS.map(|(kind, names)| (kind, rows(&step, names)));
    let listed = kinds.iter().flat_map(|(_, rows)| rows).map(|row| row.times).sum::<usize>();
    assert_eq!(listed, step.len(), "a kind of operation is missing");
    let mut text = format!(
        "\n## {title}\n\n| operation | a step | GFLOP | MB | floor, us | bound by | plan |\n|---|---|---|---|---|---|---|"
    );
    for row in kinds.iter().flat_map(|(_, rows)| rows) {
        let Row { name, times, flops, bytes, plan } = row;
        let bound = if flops / FLOPS > bytes / BYTES { "tensor cores" } else { "memory" };
        let (giga, mega, floor) = (flops / 1e9, bytes / 1e6, row.floor() * 1e6);
        let _ =
            write!(text, "\n| {name} | {times} | {giga:.2} | {mega:.1} | {floor:.1} | {bound} | {plan} |");
    }
    let _ = writeln!(text, "\n\n| a step's | TFLOP | GB | floor, ms |\n|---|---|---|---|");
    let mut all = [0.0; 3];
    for (kind, rows) in &kinds {
        let total = |of: fn(&Row) -> f64| rows.iter().map(|row| row.times as f64 * of(row)).sum::<f64>();
        let sums = [total(|row| row.flops) / 1e12, total(|row| row.bytes) / 1e9, total(Row::floor) * 1e3];
        all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        let _ = writeln!(text, "| {kind} | {:.2} | {:.2} | {:.2} |", sums[0], sums[1], sums[2]);
    }
    let _ = writeln!(text, "| all | {:.2} | {:.2} | {:.2} |", all[0], all[1], all[2]);
    text
}

#[test]
fn the_table_is_up_to_date() {
    let text = format!(
        "# What kernels must cost\n\n\
         Every operation of one denoising step in f16, two items (one picture under guidance), on an H100 SXM: {:.0} TFLOP/s \
         dense and\n{:.2} TB/s. The floor of an operation is the larger of its operations and its bytes (what it reads and \
         writes, each once) at\nthose rates; exponentials are not counted. The plan is what `src/cuda` chooses for \
         {MULTIPROCESSORS} multiprocessors. Nothing here has\nbeen measured. Made by `KERNELS_TABLE=write cargo test --release \
         --lib floor`.\n{}{}",
        FLOPS / 1e12,
        BYTES / 1e12,
        table("SD 1.5 at 512 pixels", Preset::Sd15, 64),
        table("SDXL at 1024 pixels", Preset::Sdxl, 128),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kernels-floor.md");
    if env::var_os("KERNELS_TABLE").is_some_and(|value| value == "write") {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/kernels-floor.md is out of date; its first paragraph says how it is made");
}
