//! 3x3 convolution in 16 multiplications for four pixels instead of 36: F(2x2, 3x3) of Winograd 1980, after Lavin & Gray
//! 2015 (arXiv 1509.09308).
//!
//! `Y = A' [(G g G') (B' d B)] A` for every patch `d` of 4x4 pixels, whose inner 2x2 it gives, and every kernel `g`,
//! summed over the channels between the brackets. So there are 16 matrix products, one for each place of a patch, over
//! channels: patches by channels times channels by outputs. A task transforms what it needs, patches and weights, a few
//! channels at a time, and they never leave its cache; the packed weight stays as every other convolution has it.
//!
//! Tried and lost, of the 350 to 380 GFLOP/s (of the direct method's operations) on two cores of a Zen 4 whose products
//! reach 210: one panel to a task (310), half as many patches (310), half as many channels (350), and transforms in the
//! iterators of arrays, which do not become vectors (220).

#![expect(
    clippy::needless_range_loop,
    reason = "lanes and columns, by their numbers, as the formulas have them"
)]

use std::ops::Range;

use super::conv2d::Pixels;
use super::epilogue::Epilogue;
use super::product::{Output, Rows, kernel_f32, multiply};
use super::threads::{share, tiles, with_scratch};
use super::{Compute, PackedWeight};
use crate::simd::vectorised;
use crate::tensor::{DType, Shaped};

/// Places of a patch.
const PLACES: usize = 16;
/// Patches of a task, at most.
const PATCHES: usize = 96;
/// Channels that are transformed at a time, at most.
const CHANNELS: usize = 160;
/// Panels of outputs that share a task's transformed patches.
const PANELS: usize = 2;
/// Values that are transformed side by side.
const LANES: usize = 8;

type Lanes = [f32; LANES];

/// Whether a weight is one that this is for: 3x3, f32, with so many channels that the transforms pay and that a plain
/// sum over them errs more.
pub(super) fn takes<E: Compute>(weight: &PackedWeight<E>) -> bool {
    const FEWEST: usize = 64;
    let (inputs, panel) = (weight.inputs(), weight.kernel().panel);
    let wide = inputs >= FEWEST && inputs.is_multiple_of(LANES) && weight.outputs().is_multiple_of(panel);
    E::DTYPE == DType::F32 && *weight.shape() == [weight.outputs(), 3, 3, inputs] && wide
}

/// Convolves; `y` has `items` of `extents`, height and width.
pub(super) fn winograd<E: Compute>(
    weight: &PackedWeight<E>,
    patches: &Pixels<'_, E>,
    items: usize,
    extents: [usize; 2],
    epilogue: &Epilogue<'_, E>,
    y: &mut [E],
) {
    let (inputs, outputs, panel) = (weight.inputs(), weight.outputs(), weight.kernel().panel);
    let [tall, wide] = patches.output;
    let all = items * tall * wide;
    let blocks = all.div_ceil(PATCHES);
    let block_patches = all.div_ceil(blocks);
    let channels = inputs.div_ceil(inputs.div_ceil(CHANNELS)).next_multiple_of(LANES);
    let group = PANELS * panel;
    let output = Output::new(y);
    let work = 2 * (PLACES * all * inputs * outputs) as u64;
    share(outputs.div_ceil(group) * blocks, work, |task| {
        let (columns, first) = (task / blocks * group, task % blocks * block_patches);
        let columns = columns..outputs.min(columns + group);
        let block = first..all.min(first + block_patches);
        let sizes = [block.len() * channels, channels * panel, block.len() * group];
        with_scratch(PLACES * sizes.iter().sum::<usize>() + 4 * panel, |scratch| {
            let (of_patches, scratch) = scratch.split_at_mut(PLACES * sizes[0]);
            let (of_weights, scratch) = scratch.split_at_mut(PLACES * sizes[1]);
            let (sums, finished) = scratch.split_at_mut(PLACES * sizes[2]);
            for channels in tiles(inputs, channels) {
                transform_patches(patches, weight.zeros(), block.clone(), channels.clone(), of_patches);
                let sums = sums.chunks_exact_mut(PLACES * block.len() * panel);
                for (first, sums) in columns.clone().step_by(panel).zip(sums) {
                    transform_weights(weight, first, channels.clone(), of_weights);
                    let x = of_patches.chunks_exact(block.len() * channels.len());
                    let weights = of_weights.chunks_exact(channels.len() * panel);
                    let sums = sums.chunks_exact_mut(block.len() * panel);
                    for ((x, weights), sums) in x.zip(weights).zip(sums) {
                        multiply(kernel_f32(weight.isa()), x, weights, sums, channels.start > 0);
                    }
                }
            }
            let sums = sums.chunks_exact(PLACES * block.len() * panel);
            for (first, sums) in columns.clone().step_by(panel).zip(sums) {
                let columns = first..first + panel;
                vectorised(
                    #[inline(always)]
                    || {
                        for (at, patch) in block.clone().enumerate() {
                            transform_sums(sums, [block.len(), at, panel], finished);
                            let (n, i, j) =
                                (patch / (tall * wide), patch / wide % tall * 2, patch % wide * 2);
                            for (pixel, sums) in finished.chunks_exact_mut(panel).enumerate() {
                                let (i, j) = (i + pixel / 2, j + pixel % 2);
                                if i < extents[0] && j < extents[1] {
                                    let row = (n * extents[0] + i) * extents[1] + j;
                                    // SAFETY: the row and the columns lie within `y`; the pixel is in no patch but this
                                    // and the columns in no task of its but this.
                                    let y = unsafe { output.part(row * outputs + first, panel) };
                                    epilogue.finish(row, columns.clone(), sums, y);
                                }
                            }
                        }
                    },
                );
            }
        });
    });
}

/// `B' d B` of some `channels` of a block of patches: for every place, patches by channels.
fn transform_patches<E: Compute>(
    patches: &Pixels<'_, E>,
    zeros: &[E],
    block: Range<usize>,
    channels: Range<usize>,
    to: &mut [f32],
) {
    let place = block.len() * channels.len();
    vectorised(
        #[inline(always)]
        || {
            let mut patch = patches.row(block.start);
            for at in 0..block.len() {
                let mut seen = [zeros; PLACES];
                for tap in 0..PLACES {
                    seen[tap] = &patches.seen(patch, tap).unwrap_or(zeros)[channels.clone()];
                }
                for c in (0..channels.len()).step_by(LANES) {
                    let mut columns = [[[0.0; LANES]; 4]; 4];
                    for j in 0..4 {
                        let d = |i: usize| load(&seen[4 * i + j][c..]);
                        columns[j] = of_data(d(0), d(1), d(2), d(3));
                    }
                    for i in 0..4 {
                        let row = of_data(columns[0][i], columns[1][i], columns[2][i], columns[3][i]);
                        for j in 0..4 {
                            store(row[j], &mut to[(4 * i + j) * place + at * channels.len() + c..]);
                        }
                    }
                }
                patch = patches.next(patch);
            }
        },
    );
}

/// `G g G'` of some `channels` of the panel that begins with output `first`: for every place, channels by outputs.
fn transform_weights<E: Compute>(
    weight: &PackedWeight<E>,
    first: usize,
    channels: Range<usize>,
    to: &mut [f32],
) {
    let ((panel, width), inputs) = (weight.panel(first), weight.inputs());
    let place = channels.len() * width;
    vectorised(
        #[inline(always)]
        || {
            for (at, c) in channels.clone().enumerate() {
                for lane in (0..width).step_by(LANES) {
                    let mut columns = [[[0.0; LANES]; 4]; 3];
                    for j in 0..3 {
                        let g = |i: usize| load(&panel[((3 * i + j) * inputs + c) * width + lane..]);
                        columns[j] = of_weights(g(0), g(1), g(2));
                    }
                    for i in 0..4 {
                        let row = of_weights(columns[0][i], columns[1][i], columns[2][i]);
                        for j in 0..4 {
                            store(row[j], &mut to[(4 * i + j) * place + at * width + lane..]);
                        }
                    }
                }
            }
        },
    );
}

/// `A' m A` of patch `at` of a block of `patches`: its four pixels, each of the panel's outputs.
#[inline(always)]
fn transform_sums(sums: &[f32], [patches, at, panel]: [usize; 3], to: &mut [f32]) {
    for lane in (0..panel).step_by(LANES) {
        let mut columns = [[[0.0; LANES]; 2]; 4];
        for j in 0..4 {
            let m = |i: usize| load(&sums[((4 * i + j) * patches + at) * panel + lane..]);
            columns[j] = of_sums(m(0), m(1), m(2), m(3));
        }
        for i in 0..2 {
            let row = of_sums(columns[0][i], columns[1][i], columns[2][i], columns[3][i]);
            for j in 0..2 {
                store(row[j], &mut to[(2 * i + j) * panel + lane..]);
            }
        }
    }
}

/// `B'` times a column.
#[inline(always)]
fn of_data(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> [Lanes; 4] {
    [
        combined(1.0, a, -1.0, c),
        combined(1.0, b, 1.0, c),
        combined(1.0, c, -1.0, b),
        combined(1.0, b, -1.0, d),
    ]
}

/// `G` times a column.
#[inline(always)]
fn of_weights(a: Lanes, b: Lanes, c: Lanes) -> [Lanes; 4] {
    let outer = combined(0.5, a, 0.5, c);
    [a, combined(1.0, outer, 0.5, b), combined(1.0, outer, -0.5, b), c]
}

/// `A'` times a column.
#[inline(always)]
fn of_sums(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> [Lanes; 2] {
    let (sum, difference) = (combined(1.0, b, 1.0, c), combined(1.0, b, -1.0, c));
    [combined(1.0, a, 1.0, sum), combined(1.0, difference, -1.0, d)]
}

/// `s a + t b`
#[inline(always)]
fn combined(s: f32, a: Lanes, t: f32, b: Lanes) -> Lanes {
    let mut sum = [0.0; LANES];
    for lane in 0..LANES {
        sum[lane] = s * a[lane] + t * b[lane];
    }
    sum
}

#[inline(always)]
fn load<E: Compute>(values: &[E]) -> Lanes {
    let (values, mut lanes) = (&values[..LANES], [0.0; LANES]);
    for lane in 0..LANES {
        lanes[lane] = values[lane].widen();
    }
    lanes
}

#[inline(always)]
fn store(lanes: Lanes, to: &mut [f32]) {
    to[..LANES].copy_from_slice(&lanes);
}
