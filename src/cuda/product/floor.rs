//! The table of `docs/kernels-floor.md`: what the products of one denoising step must cost.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use super::{Gpu, Image, Product, Rows};
use crate::tensor::DType;

/// Of an H100 SXM: dense f16 on tensor cores, and memory. From its data sheet.
const FLOPS: f64 = 989e12;
const BYTES: f64 = 3.35e12;
const H100: Gpu = Gpu { multiprocessors: 132, hopper: true };
/// Guidance's two halves of one picture.
const BATCH: usize = 2;

/// A product, and how often a step computes it.
struct Row {
    name: String,
    product: Product,
    /// Multiply-adds for a value of the output, zeros of the packed weight not counted.
    terms: usize,
    /// Values of `x`.
    read: usize,
    times: usize,
}

/// One of a network's products.
fn row(name: String, edge: usize, taps: usize, [inputs, columns]: [usize; 2], times: usize) -> Row {
    let (item_rows, from) = (edge * edge, if taps == 1 { Rows::Matrix } else { Rows::Pixels });
    let (rows, depth) = (BATCH * item_rows, taps * inputs.next_multiple_of(8));
    let image = Some(match from {
        Rows::Matrix => Image::of_matrix(rows, inputs),
        Rows::Pixels => Image { items: BATCH, height: edge, width: edge, channels: inputs, kernel: 3 },
    });
    let product = Product { from, image, element: DType::F16, rows, item_rows, columns, depth, gated: false };
    Row { name, product, terms: taps * inputs, read: rows * inputs, times }
}

fn conv(edge: usize, channels: [usize; 2], times: usize) -> Row {
    let [inputs, outputs] = channels;
    row(format!("3x3 {inputs} to {outputs} at {edge}"), edge, 9, channels, times)
}

/// One with stride 2, or upsampling: its input is larger or smaller than its output of `edge`.
fn resize(what: &str, edge: usize, from: usize, channels: usize, times: usize) -> Row {
    let name = format!("3x3 {what} {channels} to {edge}");
    let mut row = row(name, edge, 9, [channels; 2], times);
    row.product.image = None;
    Row { read: BATCH * from * from * channels, ..row }
}

fn linear(edge: usize, channels: [usize; 2], times: usize) -> Row {
    let [inputs, outputs] = channels;
    row(format!("linear {inputs} to {outputs} at {edge}"), edge, 1, channels, times)
}

/// The products of `transformers`, each of `depth` blocks. Keys and values of the prompt are computed once a run.
fn transformers(edge: usize, c: usize, transformers: usize, depth: usize) -> [Row; 4] {
    let blocks = transformers * depth;
    let mut geglu = linear(edge, [c, 4 * c], blocks);
    geglu.product.gated = true;
    geglu.name = format!("GEGLU {c} to {} at {edge}", 4 * c);
    [
        linear(edge, [c, c], 2 * transformers + 3 * blocks),
        linear(edge, [c, 3 * c], blocks),
        geglu,
        linear(edge, [4 * c, c], blocks),
    ]
}

/// SD 1.5 at 512 pixels.
fn sd15() -> Vec<Row> {
    let mut rows = vec![
        conv(64, [4, 320], 1),
        conv(64, [320, 320], 7),
        conv(64, [640, 320], 2),
        conv(64, [960, 320], 1),
        conv(64, [320, 4], 1),
        conv(32, [320, 640], 1),
        conv(32, [640, 640], 6),
        conv(32, [960, 640], 1),
        conv(32, [1280, 640], 1),
        conv(32, [1920, 640], 1),
        conv(16, [640, 1280], 1),
        conv(16, [1280, 1280], 6),
        conv(16, [1920, 1280], 1),
        conv(16, [2560, 1280], 2),
        conv(8, [1280, 1280], 11),
        conv(8, [2560, 1280], 3),
        resize("halving", 32, 64, 320, 1),
        resize("halving", 16, 32, 640, 1),
        resize("halving", 8, 16, 1280, 1),
        resize("doubling", 16, 8, 1280, 1),
        resize("doubling", 32, 16, 1280, 1),
        resize("doubling", 64, 32, 640, 1),
        linear(64, [640, 320], 2),
        linear(64, [960, 320], 1),
        linear(32, [320, 640], 1),
        linear(32, [960, 640], 1),
        linear(32, [1280, 640], 1),
        linear(32, [1920, 640], 1),
        linear(16, [640, 1280], 1),
        linear(16, [1920, 1280], 1),
        linear(16, [2560, 1280], 2),
        linear(8, [2560, 1280], 3),
    ];
    for (edge, channels, count) in [(64, 320, 5), (32, 640, 5), (16, 1280, 5), (8, 1280, 1)] {
        rows.extend(transformers(edge, channels, count, 1));
    }
    rows
}

/// SDXL at 1024 pixels.
fn sdxl() -> Vec<Row> {
    let mut rows = vec![
        conv(128, [4, 320], 1),
        conv(128, [320, 320], 7),
        conv(128, [640, 320], 2),
        conv(128, [960, 320], 1),
        conv(128, [320, 4], 1),
        conv(64, [320, 640], 1),
        conv(64, [640, 640], 6),
        conv(64, [960, 640], 1),
        conv(64, [1280, 640], 1),
        conv(64, [1920, 640], 1),
        conv(32, [640, 1280], 1),
        conv(32, [1280, 1280], 10),
        conv(32, [1920, 1280], 1),
        conv(32, [2560, 1280], 2),
        resize("halving", 64, 128, 320, 1),
        resize("halving", 32, 64, 640, 1),
        resize("doubling", 64, 32, 1280, 1),
        resize("doubling", 128, 64, 640, 1),
        linear(128, [640, 320], 2),
        linear(128, [960, 320], 1),
        linear(64, [320, 640], 1),
        linear(64, [960, 640], 1),
        linear(64, [1280, 640], 1),
        linear(64, [1920, 640], 1),
        linear(32, [640, 1280], 1),
        linear(32, [1920, 1280], 1),
        linear(32, [2560, 1280], 2),
    ];
    rows.extend(transformers(64, 640, 5, 2));
    rows.extend(transformers(32, 1280, 6, 10));
    rows
}

impl Row {
    /// Operations, a multiply-add counted as two.
    fn flops(&self) -> f64 {
        2.0 * (self.product.rows * self.product.width() * self.terms) as f64
    }

    /// Bytes of `x`, the weight and `y`, each once.
    fn bytes(&self) -> f64 {
        let Product { rows, columns, depth, .. } = self.product;
        2.0 * (self.read + self.product.width() * depth + rows * columns) as f64
    }

    /// Seconds.
    fn floor(&self) -> f64 {
        (self.flops() / FLOPS).max(self.bytes() / BYTES)
    }
}

fn table(model: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "\n## {model}\n\n| product | a step | GFLOP | MB | floor, us | bound by | plan |\n|---|---|---|---|---|---|---|"
    );
    for row in rows {
        let (flops, bytes) = (row.flops(), row.bytes());
        let bound = if flops / FLOPS > bytes / BYTES { "tensor cores" } else { "memory" };
        let plan = row.product.plan(H100);
        let parts = if plan.splits > 1 { format!(", {} parts", plan.splits) } else { String::new() };
        let _ = write!(
            text,
            "\n| {} | {} | {:.2} | {:.1} | {:.1} | {bound} | `{}`{parts} |",
            row.name,
            row.times,
            flops / 1e9,
            bytes / 1e6,
            row.floor() * 1e6,
            plan.tiles.kernel,
        );
    }
    let total = |of: fn(&Row) -> f64| rows.iter().map(|row| row.times as f64 * of(row)).sum::<f64>();
    let [flops, bytes, floor] = [total(Row::flops), total(Row::bytes), total(Row::floor)];
    let (flops, bytes, floor) = (flops / 1e12, bytes / 1e9, floor * 1e3);
    let _ = writeln!(text, "\n\nAll products of a step: {flops:.2} TFLOP, {bytes:.2} GB, {floor:.2} ms.");
    text
}

#[test]
fn the_table_is_up_to_date() {
    let text = format!(
        "# What products must cost\n\n\
         Convolutions and linear layers of one denoising step in f16, two items (one picture under guidance), on an H100 SXM: \
         {:.0}\nTFLOP/s dense and {:.2} TB/s. The floor of a product is the larger of its operations and its bytes (input, weight \
         and\noutput, each once) at those rates. The plan is what `src/cuda/product.rs` chooses for {} \
         multiprocessors. Nothing here\nhas been measured. Made by `KERNELS_TABLE=write cargo test --release --lib floor`.\n{}{}",
        FLOPS / 1e12,
        BYTES / 1e12,
        H100.multiprocessors,
        table("SD 1.5 at 512 pixels", &sd15()),
        table("SDXL at 1024 pixels", &sdxl()),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kernels-floor.md");
    if env::var_os("KERNELS_TABLE").is_some_and(|value| value == "write") {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/kernels-floor.md is out of date; its first paragraph says how it is made");
}
