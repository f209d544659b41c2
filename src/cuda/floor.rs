//! The table of `docs/kernels-floor.md`: what one denoising step must cost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use super::product::{Gpu, Image, Product, Rows};
use super::{attention, group_norm};
use crate::tensor::DType;

/// Of an H100 SXM: dense f16 on tensor cores, and memory. From its data sheet.
const FLOPS: f64 = 989e12;
const BYTES: f64 = 3.35e12;
const H100: Gpu = Gpu { multiprocessors: 132, hopper: true };
/// Guidance's two halves of one picture.
const BATCH: usize = 2;
/// Of a prompt.
const TOKENS: usize = 77;
const F16: usize = 2;

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

/// A network's convolutions with 3x3 taps and without resizing, `[edge, inputs, outputs, times]`; other products; and its
/// transformers.
struct Network {
    convolutions: Vec<[usize; 4]>,
    others: Vec<Row>,
    transformers: Vec<Transformers>,
}

/// So many of so many blocks each.
struct Transformers {
    edge: usize,
    channels: usize,
    heads: usize,
    times: usize,
    depth: usize,
}

/// A product of `taps` taps to an image of `edge`, from an input of `read` items of as many pixels.
fn product(name: String, edge: usize, read: usize, taps: usize, channels: [usize; 2], times: usize) -> Row {
    gated(name, edge, read, taps, channels, times, false)
}

fn gated(
    name: String,
    edge: usize,
    read: usize,
    taps: usize,
    [inputs, columns]: [usize; 2],
    times: usize,
    gated: bool,
) -> Row {
    let (item_rows, from) = (edge * edge, if taps == 1 { Rows::Matrix } else { Rows::Pixels });
    let (rows, depth) = (BATCH * item_rows, taps * inputs.next_multiple_of(8));
    // What is resized is not for Hopper's kernels.
    let image = (read == item_rows).then(|| match from {
        Rows::Matrix => Image::of_matrix(rows, inputs),
        Rows::Pixels => Image { items: BATCH, height: edge, width: edge, channels: inputs, kernel: 3 },
    });
    let product = Product { from, image, element: DType::F16, rows, item_rows, columns, depth, gated };
    let plan = product.plan(H100);
    let parts = if plan.splits > 1 { format!(", {} parts", plan.splits) } else { String::new() };
    Row {
        name,
        times,
        flops: 2.0 * (rows * product.width() * taps * inputs) as f64,
        bytes: (F16 * (BATCH * read * inputs + product.width() * depth + rows * columns)) as f64,
        plan: format!("`{}`{parts}", plan.tiles.kernel),
    }
}

fn conv([edge, inputs, outputs, times]: [usize; 4]) -> Row {
    product(format!("3x3 {inputs} to {outputs} at {edge}"), edge, edge * edge, 9, [inputs, outputs], times)
}

/// One with stride 2, or upsampling: its input is larger or smaller than its output of `edge`.
fn resize(what: &str, edge: usize, from: usize, channels: usize, times: usize) -> Row {
    product(format!("3x3 {what} {channels} to {edge}"), edge, from * from, 9, [channels; 2], times)
}

fn linear(edge: usize, [inputs, outputs]: [usize; 2], times: usize) -> Row {
    let name = format!("linear {inputs} to {outputs} at {edge}");
    product(name, edge, edge * edge, 1, [inputs, outputs], times)
}

impl Transformers {
    /// Keys and values of the prompt are computed once a run.
    fn products(&self) -> [Row; 4] {
        let &Transformers { edge, channels: c, times, depth, .. } = self;
        let blocks = times * depth;
        [
            linear(edge, [c, c], 2 * times + 3 * blocks),
            linear(edge, [c, 3 * c], blocks),
            gated(
                format!("GEGLU {c} to {} at {edge}", 4 * c),
                edge,
                edge * edge,
                1,
                [c, 4 * c],
                blocks,
                true,
            ),
            linear(edge, [4 * c, c], blocks),
        ]
    }

    /// To itself, and to the prompt.
    fn attentions(&self) -> [Row; 2] {
        let &Transformers { edge, channels, heads, times, depth } = self;
        let (queries, of_head) = (edge * edge, channels / heads);
        [queries, TOKENS].map(|keys| {
            let y = [BATCH, queries, channels].into();
            let plan = attention::plan(DType::F16, y, heads).expect("heads that there is a kernel for");
            Row {
                name: format!("attention {queries} to {keys}, {heads} heads of {of_head}"),
                times: times * depth,
                flops: (4 * BATCH * queries * keys * channels) as f64,
                bytes: (F16 * BATCH * 2 * (queries + keys) * channels) as f64,
                plan: format!("`{}`", plan.kernel),
            }
        })
    }

    fn layer_norm(&self) -> Row {
        let &Transformers { edge, channels, times, depth, .. } = self;
        norm("layer norm", edge, channels, 3 * times * depth, "`layer_norm`".into())
    }
}

/// A normalisation, which does a few operations a value: what it reads and writes is what it costs.
fn norm(what: &str, edge: usize, channels: usize, times: usize, plan: String) -> Row {
    let values = BATCH * edge * edge * channels;
    let name = format!("{what} {channels} at {edge}");
    Row { name, times, flops: 8.0 * values as f64, bytes: (2 * F16 * values) as f64, plan }
}

fn group_norm(edge: usize, channels: usize, times: usize) -> Row {
    let shape = [BATCH, edge, edge, channels].into();
    let plan = match group_norm::plan(DType::F16, shape, 32).expect("few values") {
        group_norm::Plans::OnChip(plan) => format!("`{}`", plan.kernel),
        group_norm::Plans::Chunks { moments, apply, .. } => {
            format!("`{}`, `{}`", moments.kernel, apply.kernel)
        }
    };
    norm("group norm", edge, channels, times, plan)
}

impl Network {
    fn products(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.convolutions.iter().copied().map(conv).collect();
        rows.extend(self.others.iter().map(|row| Row {
            name: row.name.clone(),
            plan: row.plan.clone(),
            ..*row
        }));
        rows.extend(self.transformers.iter().flat_map(Transformers::products));
        rows
    }

    fn attentions(&self) -> Vec<Row> {
        self.transformers.iter().flat_map(Transformers::attentions).collect()
    }

    /// One before each convolution but the first, and before each transformer.
    fn norms(&self) -> Vec<Row> {
        let mut groups = BTreeMap::new();
        let convolutions = self.convolutions.iter().map(|&[edge, inputs, _, times]| [edge, inputs, times]);
        let transformers = self.transformers.iter().map(|t| [t.edge, t.channels, t.times]);
        for [edge, channels, times] in convolutions.filter(|&[_, inputs, _]| inputs != 4).chain(transformers)
        {
            *groups.entry((std::cmp::Reverse(edge), channels)).or_insert(0) += times;
        }
        let groups = groups.into_iter().map(|((edge, channels), times)| group_norm(edge.0, channels, times));
        groups.chain(self.transformers.iter().map(Transformers::layer_norm)).collect()
    }
}

/// SD 1.5 at 512 pixels.
fn sd15() -> Network {
    Network {
        convolutions: vec![
            [64, 4, 320, 1],
            [64, 320, 320, 7],
            [64, 640, 320, 2],
            [64, 960, 320, 1],
            [64, 320, 4, 1],
            [32, 320, 640, 1],
            [32, 640, 640, 6],
            [32, 960, 640, 1],
            [32, 1280, 640, 1],
            [32, 1920, 640, 1],
            [16, 640, 1280, 1],
            [16, 1280, 1280, 6],
            [16, 1920, 1280, 1],
            [16, 2560, 1280, 2],
            [8, 1280, 1280, 11],
            [8, 2560, 1280, 3],
        ],
        others: vec![
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
        ],
        transformers: vec![
            Transformers { edge: 64, channels: 320, heads: 8, times: 5, depth: 1 },
            Transformers { edge: 32, channels: 640, heads: 8, times: 5, depth: 1 },
            Transformers { edge: 16, channels: 1280, heads: 8, times: 5, depth: 1 },
            Transformers { edge: 8, channels: 1280, heads: 8, times: 1, depth: 1 },
        ],
    }
}

/// SDXL at 1024 pixels.
fn sdxl() -> Network {
    Network {
        convolutions: vec![
            [128, 4, 320, 1],
            [128, 320, 320, 7],
            [128, 640, 320, 2],
            [128, 960, 320, 1],
            [128, 320, 4, 1],
            [64, 320, 640, 1],
            [64, 640, 640, 6],
            [64, 960, 640, 1],
            [64, 1280, 640, 1],
            [64, 1920, 640, 1],
            [32, 640, 1280, 1],
            [32, 1280, 1280, 10],
            [32, 1920, 1280, 1],
            [32, 2560, 1280, 2],
        ],
        others: vec![
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
        ],
        transformers: vec![
            Transformers { edge: 64, channels: 640, heads: 10, times: 5, depth: 2 },
            Transformers { edge: 32, channels: 1280, heads: 20, times: 6, depth: 10 },
        ],
    }
}

fn table(model: &str, network: &Network) -> String {
    let kinds =
        [("products", network.products()), ("attention", network.attentions()), ("norms", network.norms())];
    let mut text = format!(
        "\n## {model}\n\n| operation | a step | GFLOP | MB | floor, us | bound by | plan |\n|---|---|---|---|---|---|---|"
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
         Convolutions, linear layers, attention and normalisations of one denoising step in f16, two items (one picture under\n\
         guidance), on an H100 SXM: {:.0} TFLOP/s dense and {:.2} TB/s. The floor of an operation is the larger of its \
         operations\nand its bytes (inputs, weight and output, each once) at those rates; exponentials are not counted. The plan \
         is what\n`src/cuda` chooses for {} multiprocessors. Nothing here has been \
         measured. Made by\n`KERNELS_TABLE=write cargo test --release --lib floor`.\n{}{}",
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
