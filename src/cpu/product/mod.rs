//! The matrix product that linear layers and convolutions are: rows of `x` times a packed weight.
//!
//! The output is cut into blocks of rows by panels of columns, which are shared over the threads. Within one, the sums
//! over a part of the terms are computed tile by tile while the part of the panel that they need stays in cache, then
//! those over the next part are added to them; when they are whole, the caller's epilogue takes them from there to the
//! output. The order of every sum depends on the weight alone, so a row has the same bits in any company.
//!
//! Tried and lost, on two cores of a Zen 4, 8192x320x2560 in f32 at 198 GFLOP/s and 3x3 over 320 channels in bf16 at 431:
//! one panel to a task, whose rows then come from memory anew for each (135); sums that are loaded before they are added
//! to, rows found by division, and one tap at a time (390 in bf16). The `gemm` crate reached 200 to 210 in f32.

mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use half::bf16;

pub(super) use tile::Kernel;
use tile::{Job, ROWS};

use super::threads::{share, tiles, with_scratch};
use super::{Compute, Isa, PackedWeight};
use crate::simd::vectorised;

pub(super) fn kernel_f32(isa: Isa) -> Kernel<f32> {
    match isa {
        Isa::Portable => Kernel::of::<portable::Portable>(),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Kernel::of::<neon::Neon>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel::of::<x86::Avx2>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => Kernel::of::<x86::Avx512>(),
        _ => unreachable!("a backend has only what its machine has"),
    }
}

pub(super) fn kernel_bf16(isa: Isa) -> Kernel<bf16> {
    match isa {
        Isa::Portable => Kernel::of::<portable::PortableBf16>(),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Kernel::of::<neon::NeonBf16>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kernel::of::<x86::Avx2Bf16>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Kernel::of::<x86::Avx512Widening>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => Kernel::of::<x86::Avx512Bf16>(),
        _ => unreachable!("a backend has only what its machine has"),
    }
}

/// Where the terms of a product lie.
pub(super) trait Rows<E>: Sync {
    /// A row that has been found.
    type Row: Copy;
    /// Finds a row of the output.
    fn row(&self, row: usize) -> Self::Row;
    /// The row after that.
    fn next(&self, row: Self::Row) -> Self::Row;
    /// What one tap sees there, one value for each input of the weight; `None` for zeros.
    fn seen(&self, row: Self::Row, tap: usize) -> Option<&[E]>;
}

/// Rows of a block: with one panel's sums, and what of `x` they are made of, they fit a second-level cache.
const BLOCK: usize = 32 * ROWS;
/// Bytes of a panel, at most, whose terms are summed before the panel's next part is turned to: an eighth of a
/// second-level cache.
const PART: usize = 128 << 10;
/// Tasks that an output is cut into, about: enough for the threads of one machine to end together.
const TASKS: usize = 32;
/// Taps that a tile takes at once, if they are so short that loading and storing its sums would show.
const TAPS: usize = 9;

/// Computes `y`, whose rows are `width` wide. Column `j` of it is made of output `first + j` of the weight for each
/// `first` of `groups`. When the sums of a few columns of a row are whole, `finish` is given the row, the columns, the
/// sums of each group, and the values of `y` to write.
pub(super) fn product<E: Compute, R: Rows<E>, const GROUPS: usize>(
    weight: &PackedWeight<E>,
    rows: &R,
    y: &mut [E],
    width: usize,
    groups: [usize; GROUPS],
    finish: impl Fn(usize, Range<usize>, [&mut [f32]; GROUPS], &mut [E]) + Sync,
) {
    if y.is_empty() {
        return;
    }
    let panel = weight.kernel().panel;
    let (height, panels) = (y.len() / width, width.div_ceil(panel));
    let blocks = height.div_ceil(BLOCK);
    // As even as they can be, in whole tiles.
    let block_rows = height.div_ceil(blocks).next_multiple_of(ROWS);
    let blocks = height.div_ceil(block_rows);
    // Many panels to a task, so that its rows of `x` are read from memory once, but enough tasks for every thread.
    let panels_at_once = (panels * blocks / TASKS).clamp(1, panels);
    // A group's columns may begin anywhere in a panel of the weight and end in the next.
    let span = if groups.iter().all(|first| first % panel == 0) { panel } else { 2 * panel };
    let output = Output::new(y);
    let work = 2 * (height * width * GROUPS) as u64 * (weight.taps() * weight.inputs()) as u64;
    // Tasks of the same panels are neighbours, so that those too are read from memory once.
    share(panels.div_ceil(panels_at_once) * blocks, work, |task| {
        let (first_panel, first_row) = (task / blocks * panels_at_once, task % blocks * block_rows);
        let block = first_row..height.min(first_row + block_rows);
        for p in first_panel..panels.min(first_panel + panels_at_once) {
            let columns = p * panel..width.min((p + 1) * panel);
            let outputs = groups.map(|first| first + columns.start..first + columns.end);
            sum(weight, rows, block.clone(), &outputs, span, |tile, sums| {
                vectorised(
                    #[inline(always)]
                    || {
                        for (sums, row) in sums.chunks_exact_mut(GROUPS * span).zip(tile) {
                            let mut groups = outputs.iter().zip(sums.chunks_exact_mut(span));
                            let sums = std::array::from_fn(|_| {
                                let (outputs, sums) = groups.next().expect("sums for each group");
                                &mut sums[outputs.start % panel..][..columns.len()]
                            });
                            // SAFETY: the row and the columns lie within `y`, and belong to this task alone.
                            let y = unsafe { output.part(row * width + columns.start, columns.len()) };
                            finish(row, columns.clone(), sums, y);
                        }
                    },
                );
            });
        }
    });
}

/// `sums = x weights`, or `sums + x weights` with `add`, where a panel's weights are given: rows by terms, terms by the
/// panel's columns, rows by those. The kernel is one that the machine has.
pub(super) fn multiply<E: Compute>(kernel: Kernel<E>, x: &[E], weights: &[E], sums: &mut [f32], add: bool) {
    let terms = weights.len() / kernel.panel;
    let sums = sums.chunks_mut(ROWS * kernel.panel);
    for (x, sums) in x.chunks(ROWS * terms).zip(sums) {
        let rows = sums.len() / kernel.panel;
        assert!(x.len() == rows * terms && terms.is_multiple_of(kernel.depth), "whole rows");
        let starts = std::array::from_fn(|r| x[r.min(rows - 1) * terms..].as_ptr());
        let (starts, sums) = (&[starts], sums.as_mut_ptr());
        let job = Job { starts, terms, weights: weights.as_ptr(), sums, stride: kernel.panel, add };
        // SAFETY: the caller's promise of the instructions; the assertion that there are as many rows of terms as of sums,
        // and the weights are those of as many terms.
        unsafe { kernel.run(rows, kernel.panel, &job) };
    }
}

/// An output that several threads write parts of.
pub(super) struct Output<E>(*mut E);

// SAFETY: all that can be done with it is `part`, whose caller sees to it that no two threads have the same values.
unsafe impl<E: Send> Sync for Output<E> {}

impl<E> Output<E> {
    pub(super) fn new(y: &mut [E]) -> Self {
        Output(y.as_mut_ptr())
    }

    /// # Safety
    /// The values are there, and nobody else has any of them while the slice lives.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "which is what the caller answers for")]
    pub(super) unsafe fn part(&self, first: usize, len: usize) -> &mut [E] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(first), len) }
    }
}

/// The sums of a block of rows for some `outputs` of each group, whose panels take `span` columns. `done` is given those
/// of a tile as soon as they are whole, while the nearest cache has them: for each row the groups' side by side.
fn sum<E: Compute, R: Rows<E>, const GROUPS: usize>(
    weight: &PackedWeight<E>,
    rows: &R,
    block: Range<usize>,
    outputs: &[Range<usize>; GROUPS],
    span: usize,
    mut done: impl FnMut(Range<usize>, &mut [f32]),
) {
    let (kernel, taps, inputs) = (weight.kernel(), weight.taps(), weight.inputs());
    let most = PART / (kernel.panel * size_of::<E>());
    let taps_at_once = (most / inputs.max(1)).clamp(1, TAPS);
    let terms_at_once = inputs.div_ceil(inputs.div_ceil(most).max(1)).next_multiple_of(kernel.depth);
    let (stride, in_one_part) = (GROUPS * span, taps_at_once >= taps && terms_at_once >= inputs);
    with_scratch(if in_one_part { ROWS } else { block.len() } * stride, |sums| {
        if inputs == 0 {
            block.for_each(|row| {
                sums.fill(0.0);
                done(row..row + 1, sums)
            });
            return;
        }
        for taps_here in tiles(taps, taps_at_once) {
            for terms in tiles(inputs, terms_at_once) {
                let mut row = rows.row(block.start);
                for first_row in block.clone().step_by(ROWS) {
                    let tile = first_row..block.end.min(first_row + ROWS);
                    let mut starts = [[std::ptr::null(); ROWS]; TAPS];
                    for r in 0..tile.len() {
                        for (starts, tap) in starts.iter_mut().zip(taps_here.clone()) {
                            let seen = rows.seen(row, tap).unwrap_or(weight.zeros());
                            starts[r] = seen[..inputs][terms.clone()].as_ptr();
                        }
                        row = rows.next(row);
                    }
                    let place = if in_one_part { 0 } else { (first_row - block.start) * stride };
                    let sums = &mut sums[place..][..tile.len() * stride];
                    for (g, outputs) in outputs.iter().enumerate() {
                        let first = outputs.start / kernel.panel * kernel.panel;
                        for (i, first) in (first..outputs.end).step_by(kernel.panel).enumerate() {
                            let (panel, width) = weight.panel(first);
                            let sums = &mut sums[g * span + i * kernel.panel..];
                            let job = Job {
                                starts: &starts[..taps_here.len()],
                                terms: terms.len(),
                                weights: panel
                                    [(taps_here.start * weight.stored_inputs() + terms.start) * width..]
                                    .as_ptr(),
                                sums: sums[..(tile.len() - 1) * stride + width].as_mut_ptr(),
                                stride,
                                add: taps_here.start + terms.start > 0,
                            };
                            // SAFETY: a weight is packed for instructions that the machine has. Each start has its terms
                            // after it, by the slice that it was taken from. The panel holds the weights of all terms of
                            // all taps, and those of this part are among them. The sums' slice ends where the last row's
                            // do.
                            unsafe { kernel.run(tile.len(), width, &job) };
                        }
                    }
                    if taps_here.end == taps && terms.end == inputs {
                        done(tile, sums);
                    }
                }
            }
        }
    });
}
