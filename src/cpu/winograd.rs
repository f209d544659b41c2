//! 3x3 convolution in 36 multiplications for sixteen pixels instead of 144: F(4x4, 3x3) of Winograd 1980, after Lavin &
//! Gray 2015 (arXiv 1509.09308).
//!
//! `Y = A' [(G g G') (B' d B)] A` for every patch `d` of 6x6 pixels, whose inner 4x4 it gives, and every kernel `g`,
//! summed over the channels between the brackets. So there are 36 matrix products, one for each place of a patch, over
//! channels: patches by channels times channels by outputs. A task transforms what it needs, patches and weights, a few
//! channels at a time, and they never leave its cache; the packed weight stays as every other convolution has it.
//!
//! The points are 0, ±1/√2, ±√2 and infinity. The roundings of a product come to at most 7.1 times in a pixel what they
//! come to in plain code, with the usual 0, ±1, ±2 to 31 times. Summed a few channels at a time, they still are fewer than
//! in plain code, whose one sum has nine times the terms: over 64 channels this errs 0.4 times (at worst, of 2,000 small
//! images, 0.8 times) as much as is allowed, over 320 0.35 times (0.65).
//!
//! In bf16 all of this is f32 too. Rounding what is transformed to bf16, for twice the products a second, errs 2.6 times
//! as much as plain code even with F(2x2, 3x3), which has 2.25 times as many products, and 7 times with this.
//!
//! Tried and lost, of 675 GFLOP/s (of the direct method's operations) at 64x64 over 320 channels in bf16 on two cores of a
//! Zen 4 whose products reach 210: places without a cache line between them (563); F(2x2, 3x3) (380, in f32); at 32x32 over
//! 640, which has 700, 128 patches to a task (600), 48 (630), three panels (635). Of 370 in f32 on two cores of a Zen 3,
//! whose panels are a quarter as wide: patches transformed anew for every two panels, and outputs finished a panel at a
//! time, so that what is added to them comes by single cache lines (230). There 32 to 128 channels at a time, 64 to 256
//! outputs and 48 to 128 patches to a task differ by less than the machine's noise. Of 740 in f32 on two cores of an Emerald
//! Rapids whose products reach 350: 128 channels at a time or 64 outputs to a task (8 % slower), 48 patches of 160 channels
//! (10 %), 64 of 128 (19 %), 48 or 64 channels and 64 to 128 patches (no difference); asking, while places are multiplied,
//! for the places or the weights that come next, or for a patch's pixels and outputs bit by bit (2 % slower to no
//! difference); transforms by intrinsics, multiplications and additions fused, which takes a third less arithmetic (no
//! difference: they wait for the second cache); lines asked for before transformed weights are written to them (1 to 5 %
//! slower). There to transform a vector of weights takes some 200 cycles, a quarter of them to read it, which is most of the
//! time where patches are few (8x8 over 1280 channels, four patches: 60 % of 6 ms). Intrinsics take 8 % off that. Tried and
//! lost against it: 4 to 40 channels, or one or two vectors of outputs, at a time, so that the first cache holds what is made
//! (1.2 to 2 times as long); a row of places at a time (1.7 times); weights that never leave the registers that they are
//! transformed in, multiplied by four patches at a time (10 % faster with four patches, 1.3 times as long with 8, 1.6 with 16).

#![expect(
    clippy::needless_range_loop,
    reason = "lanes and columns, by their numbers, as the formulas have them"
)]

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ops::{Add, Mul, Range, Sub};

use super::conv2d::Pixels;
use super::epilogue::{Epilogue, bias_of};
use super::product::{Finish, Kernel, Output, Rows, kernel_f32, multiply};
use super::threads::{share, tiles, with_scratch};
use super::{Compute, Isa, PackedWeight};
use crate::simd::{CACHE_LINE, prefetch, vectorised};
use crate::tensor::{DType, Shaped};

/// Pixels of a patch, and of what it gives, in each direction.
const SIDE: usize = INNER + 2;
pub(super) const INNER: usize = 4;
/// Places of a patch.
const PLACES: usize = SIDE * SIDE;
/// Patches of a task, at most.
const PATCHES: usize = 96;
/// Channels that are transformed at a time, at most, and into how many parts of them a sum is cut at least.
const CHANNELS: usize = 80;
const PARTS: usize = 4;
/// Outputs that share a task's transformed patches, at most.
const COLUMNS: usize = 128;
/// Values that are transformed side by side: a vector of what products are made by, but no fewer than eight.
fn lanes(kernel: &Kernel<f32>) -> usize {
    kernel.lanes.max(8)
}

/// Whether a convolution is one that this is for: 3x3, with so many channels that the transforms pay, and pixels of an
/// output of these `extents` in more than half of what its patches give. With fewer, or of fewer channels, plain code
/// sums too little to err as much. The panels of a weight in bf16 have to be as wide as those of f32.
pub(super) fn takes<E: Compute>(weight: &PackedWeight<E>, extents: [usize; 2]) -> bool {
    const FEWEST: usize = 64;
    let (inputs, outputs, panel) = (weight.inputs(), weight.outputs(), weight.kernel().panel);
    let kernel = kernel_f32(weight.isa());
    let wide = inputs >= FEWEST && inputs.is_multiple_of(lanes(&kernel)) && outputs.is_multiple_of(panel);
    let given = extents.map(|extent| extent.next_multiple_of(INNER));
    let full = 2 * extents.iter().product::<usize>() > given.iter().product();
    let fits = panel == kernel.panel && panel.is_multiple_of(lanes(&kernel));
    // Products in bf16 eight times as fast as those in f32 gain more.
    let outrun = E::DTYPE == DType::BF16 && weight.isa() == Isa::Amx;
    *weight.shape() == [outputs, 3, 3, inputs] && wide && full && fits && !outrun
}

/// The values that a place has in a task, and how far apart those of all places begin: a cache line more, or the same
/// value of every place might fall into a few lines of the first cache.
const fn place(values: usize) -> usize {
    values + CACHE_LINE / size_of::<f32>()
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
    let (inputs, outputs, kernel) = (weight.inputs(), weight.outputs(), kernel_f32(weight.isa()));
    let all = items * patches.output.iter().product::<usize>();
    let blocks = all.div_ceil(PATCHES);
    let block_patches = all.div_ceil(blocks);
    // So many that threads share them evenly.
    let tasks = (blocks * outputs.div_ceil(COLUMNS)).next_multiple_of(rayon::current_num_threads());
    let group = outputs.div_ceil(tasks.div_ceil(blocks)).next_multiple_of(kernel.panel);
    let work = 2 * (PLACES * all * inputs * outputs) as u64;
    let of = Convolution { weight, kernel, patches, extents, epilogue, output: Output::new(y) };
    let task = if lanes(&kernel) == 16 { Convolution::task::<16> } else { Convolution::task::<8> };
    share(outputs.div_ceil(group) * blocks, work, |i| {
        let (column, patch) = (i / blocks * group, i % blocks * block_patches);
        task(&of, column..outputs.min(column + group), patch..all.min(patch + block_patches));
    });
}

struct Convolution<'a, E: Compute> {
    weight: &'a PackedWeight<E>,
    kernel: Kernel<f32>,
    patches: &'a Pixels<'a, E>,
    /// Height and width of the output.
    extents: [usize; 2],
    epilogue: &'a Epilogue<'a, E>,
    output: Output<E>,
}

impl<E: Compute> Convolution<'_, E> {
    /// Computes some columns, whole panels, of what a block of patches gives.
    fn task<const N: usize>(&self, columns: Range<usize>, block: Range<usize>) {
        let (inputs, panel, width) = (self.weight.inputs(), self.kernel.panel, columns.len());
        let most = inputs.div_ceil(inputs.div_ceil(CHANNELS).max(PARTS)).next_multiple_of(N);
        let places = [block.len() * most, most * panel, block.len() * width].map(place);
        let sizes = places.map(|place| PLACES * place);
        with_scratch(sizes.iter().sum::<usize>() + INNER * INNER * width, |scratch| {
            let (of_patches, scratch) = scratch.split_at_mut(sizes[0]);
            let (of_weights, scratch) = scratch.split_at_mut(sizes[1]);
            let (sums, pixels) = scratch.split_at_mut(sizes[2]);
            for channels in tiles(inputs, most) {
                let zeros = self.weight.zeros();
                transform_patches::<_, N>(self.patches, zeros, &block, &channels, of_patches, places[0]);
                for first in columns.clone().step_by(panel) {
                    transform_weights::<_, N>(self.weight, first, &channels, of_weights, places[1]);
                    let x = of_patches.chunks_exact(places[0]);
                    let weights = of_weights.chunks_exact(places[1]);
                    let sums = sums.chunks_exact_mut(places[2]);
                    for ((x, weights), sums) in x.zip(weights).zip(sums) {
                        let x = &x[..block.len() * channels.len()];
                        let weights = &weights[..channels.len() * panel];
                        let sums = &mut sums[first - columns.start..];
                        multiply(self.kernel, x, weights, sums, width, channels.start > 0);
                    }
                }
            }
            self.finish::<N>(&columns, block, sums, places[2], pixels);
        });
    }

    /// Writes what the sums of a block's patches become; `pixels` has room for those of one.
    fn finish<const N: usize>(
        &self,
        columns: &Range<usize>,
        block: Range<usize>,
        sums: &[f32],
        place: usize,
        pixels: &mut [f32],
    ) {
        vectorised(
            #[inline(always)]
            || {
                let width = columns.len();
                let bias = &bias_of::<_, COLUMNS>(self.epilogue.bias, columns)[..width];
                for (at, patch) in block.clone().enumerate() {
                    if patch + 1 < block.end {
                        for row in self.rows(patch + 1).into_iter().flatten() {
                            prefetch(self.of_y(row, columns));
                            prefetch(self.epilogue.reads(row, columns));
                        }
                    }
                    transform_sums::<N>(&sums[at * width..], place, width, pixels);
                    let rows = self.rows(patch);
                    self.epilogue.rows(
                        rows.len(),
                        #[inline(always)]
                        |pixel| {
                            let row = rows[pixel]?;
                            Some((row, [&pixels[pixel * width..][..width]], self.of_y(row, columns)))
                        },
                        columns,
                        [bias],
                    );
                }
            },
        );
    }

    /// The rows of `y` that a patch's pixels are; `None` beyond the image.
    #[inline(always)]
    fn rows(&self, patch: usize) -> [Option<usize>; INNER * INNER] {
        let ([height, width], [tall, wide]) = (self.extents, self.patches.output);
        let (n, i, j) = (patch / (tall * wide), patch / wide % tall * INNER, patch % wide * INNER);
        let mut rows = [None; INNER * INNER];
        for (pixel, row) in rows.iter_mut().enumerate() {
            let (i, j) = (i + pixel / INNER, j + pixel % INNER);
            *row = (i < height && j < width).then_some((n * height + i) * width + j);
        }
        rows
    }

    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "tasks share the output, and each has its part alone")]
    fn of_y(&self, row: usize, columns: &Range<usize>) -> &mut [E] {
        // SAFETY: `finish` is called for columns of `y` and rows of a block, by the one task that they belong to.
        unsafe { self.output.part(row * self.weight.outputs() + columns.start, columns.len()) }
    }
}

/// `B' d B` of some `channels` of a block of patches: for every place, patches by channels.
fn transform_patches<E: Compute, const N: usize>(
    patches: &Pixels<'_, E>,
    zeros: &[E],
    block: &Range<usize>,
    channels: &Range<usize>,
    to: &mut [f32],
    place: usize,
) {
    vectorised(
        #[inline(always)]
        || {
            let mut patch = patches.row(block.start);
            for at in 0..block.len() {
                let mut seen = [zeros.as_ptr(); PLACES];
                for tap in 0..PLACES {
                    let pixel = patches.seen_from(patch, [tap / SIDE, tap % SIDE]).unwrap_or(zeros);
                    seen[tap] = pixel[channels.clone()].as_ptr();
                }
                patch = patches.next(patch);
                if at + 1 < block.len() {
                    // Right of what this patch sees too.
                    for tap in (0..PLACES).filter(|tap| tap % SIDE >= SIDE - INNER) {
                        let pixel = patches.seen_from(patch, [tap / SIDE, tap % SIDE]);
                        pixel.into_iter().for_each(|pixel| prefetch(&pixel[channels.clone()]));
                    }
                }
                let to = to[at * channels.len()..][..(PLACES - 1) * place + channels.len()].as_mut_ptr();
                for c in (0..channels.len()).step_by(N) {
                    // SAFETY: as many channels, a multiple of `N`, lie at each pointer, by the slices that they are
                    // from, and at each place of `to`.
                    unsafe {
                        let mut columns = [[Lanes::<N>::ZERO; SIDE]; SIDE];
                        for j in 0..SIDE {
                            let d = |i: usize| Lanes::load(seen[SIDE * i + j].add(c));
                            columns[j] = of_data([d(0), d(1), d(2), d(3), d(4), d(5)]);
                        }
                        for i in 0..SIDE {
                            let d = |j: usize| columns[j][i];
                            let row = of_data([d(0), d(1), d(2), d(3), d(4), d(5)]);
                            for j in 0..SIDE {
                                row[j].store(to.add((SIDE * i + j) * place + c));
                            }
                        }
                    }
                }
            }
        },
    );
}

/// `G g G'` of some `channels` of the panel that begins with output `first`: for every place, channels by outputs.
fn transform_weights<E: Compute, const N: usize>(
    weight: &PackedWeight<E>,
    first: usize,
    channels: &Range<usize>,
    to: &mut [f32],
    place: usize,
) {
    const TAPS: usize = 9;
    /// Channels that are asked for in advance.
    const AHEAD: usize = 12;
    let ((panel, width), inputs, depth) =
        (weight.panel(first), weight.stored_inputs(), weight.kernel().depth);
    vectorised(
        #[inline(always)]
        || {
            for (at, c) in channels.clone().enumerate() {
                let to = to[at * width..][..(PLACES - 1) * place + width].as_mut_ptr();
                let within = c % depth;
                let taps: [_; TAPS] =
                    std::array::from_fn(|tap| &panel[(tap * inputs + c - within) * width..]);
                // As many streams as there are taps are more than a processor foresees.
                let ahead = (within + AHEAD) * width..(within + AHEAD + 1) * width;
                taps.iter().filter_map(|tap| tap.get(ahead.clone())).for_each(prefetch);
                for lane in (0..width).step_by(N) {
                    let of_tap = |tap: usize| Lanes(E::unpack(&taps[tap][lane * depth..], within));
                    // SAFETY: as many lanes, a multiple of `N`, lie at each place of `to`.
                    unsafe {
                        let mut columns = [[Lanes::<N>::ZERO; SIDE]; 3];
                        for j in 0..3 {
                            columns[j] = of_weights([of_tap(j), of_tap(3 + j), of_tap(6 + j)]);
                        }
                        for i in 0..SIDE {
                            let row = of_weights([columns[0][i], columns[1][i], columns[2][i]]);
                            for j in 0..SIDE {
                                row[j].store(to.add((SIDE * i + j) * place + lane));
                            }
                        }
                    }
                }
            }
        },
    );
}

/// `A' m A` of a patch: its sixteen pixels, each of `width` outputs.
#[inline(always)]
fn transform_sums<const N: usize>(sums: &[f32], place: usize, width: usize, to: &mut [f32]) {
    let sums = sums[..(PLACES - 1) * place + width].as_ptr();
    let to = to[..INNER * INNER * width].as_mut_ptr();
    for lane in (0..width).step_by(N) {
        // SAFETY: so many, a multiple of `N`, lie at each place of `sums` and at each pixel of `to`.
        unsafe {
            let mut columns = [[Lanes::<N>::ZERO; INNER]; SIDE];
            for j in 0..SIDE {
                let m = |i: usize| Lanes::load(sums.add((SIDE * i + j) * place + lane));
                columns[j] = of_sums([m(0), m(1), m(2), m(3), m(4), m(5)]);
            }
            for i in 0..INNER {
                let m = |j: usize| columns[j][i];
                let row = of_sums([m(0), m(1), m(2), m(3), m(4), m(5)]);
                for j in 0..INNER {
                    row[j].store(to.add((INNER * i + j) * width + lane));
                }
            }
        }
    }
}

/// `B'` times a column.
#[inline(always)]
fn of_data<const N: usize>([a, b, c, d, e, f]: [Lanes<N>; 6]) -> [Lanes<N>; 6] {
    let (even, odd) = (e - c * 2.0, (d - b * 2.0) * FRAC_1_SQRT_2);
    let (even_2, odd_2) = (e - c * 0.5, (d - b * 0.5) * SQRT_2);
    [a - c * 2.5 + e, even + odd, even - odd, even_2 + odd_2, even_2 - odd_2, b - d * 2.5 + f]
}

/// `G` times a column, but for the factors -2/3 and 1/6 of its rows, which `A'` has for them.
#[inline(always)]
fn of_weights<const N: usize>([a, b, c]: [Lanes<N>; 3]) -> [Lanes<N>; 6] {
    let (even, odd) = (a + c * 0.5, b * FRAC_1_SQRT_2);
    let (even_2, odd_2) = (a + c * 2.0, b * SQRT_2);
    [a, even + odd, even - odd, even_2 + odd_2, even_2 - odd_2, c]
}

/// `A'` times a column, with the factors of `G`.
#[inline(always)]
fn of_sums<const N: usize>([a, b, c, d, e, f]: [Lanes<N>; 6]) -> [Lanes<N>; 4] {
    let (even, odd) = ((b + c) * (1.0 / 3.0), (b - c) * (SQRT_2 / 6.0));
    let (even_2, odd_2) = ((d + e) * (1.0 / 6.0), (d - e) * (SQRT_2 / 6.0));
    [a - even * 2.0 + even_2, odd_2 - odd * 2.0, even_2 * 2.0 - even, odd_2 * 2.0 - odd + f]
}

/// Values side by side.
#[derive(Clone, Copy)]
struct Lanes<const N: usize>([f32; N]);

impl<const N: usize> Lanes<N> {
    const ZERO: Self = Lanes([0.0; N]);

    /// # Safety
    /// So many values are there.
    #[inline(always)]
    unsafe fn load<E: Compute>(values: *const E) -> Self {
        // SAFETY: the caller's.
        let values = unsafe { values.cast::<[E; N]>().read_unaligned() };
        let mut lanes = [0.0; N];
        for lane in 0..N {
            lanes[lane] = values[lane].widen();
        }
        Lanes(lanes)
    }

    /// # Safety
    /// So many can be written there.
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; N]>().write_unaligned(self.0) }
    }
}

impl<const N: usize> Add for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let mut lanes = [0.0; N];
        for lane in 0..N {
            lanes[lane] = self.0[lane] + other.0[lane];
        }
        Lanes(lanes)
    }
}

impl<const N: usize> Sub for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let mut lanes = [0.0; N];
        for lane in 0..N {
            lanes[lane] = self.0[lane] - other.0[lane];
        }
        Lanes(lanes)
    }
}

impl<const N: usize> Mul<f32> for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, factor: f32) -> Self {
        let mut lanes = [0.0; N];
        for lane in 0..N {
            lanes[lane] = self.0[lane] * factor;
        }
        Lanes(lanes)
    }
}
