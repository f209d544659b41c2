//! Two passes, each over blocks of pixels in parallel: the first sums every channel's deviations from the block's first
//! pixel, strip by strip of channels in registers, which for channels last needs no gathering; the second takes off each
//! channel's centre, multiplies, adds (three operations, never fused) and activates. Between them the groups' sums over the
//! blocks, in f64, are added up in their order, so the statistics have the same bits at any number of threads.
//!
//! The floor is to read `x` twice and to write `y`: without an activation, a core of an Emerald Rapids takes 11.7 cycles for
//! sixteen values of bf16 in its second pass, whose arithmetic is 4 cycles, and waits for the third cache the rest of the
//! time.
//!
//! Tried and lost: sums in f64 from the start, with half as wide vectors and every sum in memory.

use super::moments::{Deviations, LANES, Normaliser};
use super::threads::for_each_block;
use super::write::write_activated;
use super::{Compute, Cpu};
use crate::error::Result;
use crate::ops::GroupNorm;
use crate::pool::{HostMemory, Pool, PooledTensor};
use crate::simd::vectorised;
use crate::tensor::Shaped;

/// Pixels of a block.
const PIXELS: usize = 64;
/// What a pass over one value costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 32;

/// What is worked out on the way.
pub(super) struct Scratch {
    /// For each item and block of pixels, the sum over every group, then the sum of squares: `[N, blocks, 2, groups]`.
    sums: PooledTensor<f64>,
    /// What each channel goes through, `(x - centre) scale + offset`: for each item the centres, then the scales, then
    /// the offsets, `[N, 3, C]`.
    affine: PooledTensor<f32>,
}

impl Scratch {
    pub(super) fn new<E: Compute>(pool: &Pool<HostMemory>, op: &GroupNorm<'_, Cpu<E>>) -> Result<Self> {
        let (items, channels) = (op.x.shape()[0], op.x.shape().channels());
        let blocks = (op.x.shape().rows() / items).div_ceil(PIXELS);
        Ok(Scratch {
            sums: PooledTensor::new(pool, [items, blocks, 2, op.groups])?,
            affine: PooledTensor::new(pool, [items, 3, channels])?,
        })
    }
}

pub(super) fn group_norm<E: Compute>(
    op: &GroupNorm<'_, Cpu<E>>,
    Scratch { sums, affine }: &mut Scratch,
    y: &mut PooledTensor<E>,
) {
    let shape = op.x.shape();
    let (channels, item) = (shape.channels(), shape.elements() / shape[0]);
    let sums = sums.data_mut();
    fill_sums(op, item, sums);
    let per_item = sums.chunks_exact_mut(sums.len() / shape[0]);
    for (sums, affine) in per_item.zip(affine.data_mut().chunks_exact_mut(3 * channels)) {
        fill_affine(op, item, sums, affine);
    }

    let (affine, flops) = (affine.data(), FLOPS_PER_VALUE * shape.elements() as u64);
    for_each_block(y.data_mut(), item, PIXELS * channels, flops, |n, b, y| {
        let affine = &affine[n * 3 * channels..][..3 * channels];
        let x = &op.x.data()[n * item + b * PIXELS * channels..][..y.len()];
        vectorised(
            #[inline(always)]
            || {
                let (centres, affine) = affine.split_at(channels);
                let (scales, offsets) = affine.split_at(channels);
                let mut pixels = y.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
                write_activated(
                    pixels.len(),
                    #[inline(always)]
                    |_| pixels.next().map(|(y, x)| (y, [centres, scales, offsets], [x])),
                    op.activation,
                    #[inline(always)]
                    |[centre, scale, offset], [x]| (x - centre) * scale + offset,
                );
            },
        );
    });
}

/// Fills [`Scratch::sums`].
fn fill_sums<E: Compute>(op: &GroupNorm<'_, Cpu<E>>, item: usize, sums: &mut [f64]) {
    let shape = op.x.shape();
    let (channels, block) = (shape.channels(), PIXELS * shape.channels());
    let blocks = item.div_ceil(block);
    let flops = FLOPS_PER_VALUE * shape.elements() as u64;
    for_each_block(sums, blocks * 2 * op.groups, 2 * op.groups, flops, |n, b, sums| {
        let x = &op.x.data()[n * item..][..item];
        let x = &x[b * block..item.min((b + 1) * block)];
        vectorised(
            #[inline(always)]
            || sum_groups(x, channels, sums),
        );
    });
}

/// Sums every group of a block, then its squares.
#[inline(always)]
fn sum_groups<E: Compute>(x: &[E], channels: usize, sums: &mut [f64]) {
    sums.fill(0.0);
    let groups = sums.len() / 2;
    let (sums, squares) = sums.split_at_mut(groups);
    let (per_group, pixels) = (channels / groups, (x.len() / channels) as f64);
    for first in (0..channels).step_by(LANES) {
        let (centres, deviations) = strip(x, channels, first);
        let (mut channel_sums, mut channel_squares) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            let [centre, sum, square] =
                [centres[i], deviations.sums[i], deviations.squares[i]].map(f64::from);
            channel_sums[i] = pixels * centre + sum;
            channel_squares[i] = (pixels * centre + 2.0 * sum) * centre + square;
        }
        let last = channels.min(first + LANES);
        for group in first / per_group..last.div_ceil(per_group) {
            let [start, end] = [group, group + 1].map(|group| (group * per_group).clamp(first, last) - first);
            for (sum, square) in channel_sums[start..end].iter().zip(&channel_squares[start..end]) {
                sums[group] += sum;
                squares[group] += square;
            }
        }
    }
}

/// Channels `first..` of the first pixel, and how far those of all pixels lie from them.
#[inline(always)]
fn strip<E: Compute>(x: &[E], channels: usize, first: usize) -> ([f32; LANES], Deviations) {
    let padded = |pixel: &[E]| std::array::from_fn(|i| pixel.get(first + i).copied().unwrap_or_default());
    let centres = padded(&x[..channels]).map(E::widen);
    let mut deviations = Deviations::NONE;
    for pixel in x.chunks_exact(channels) {
        match pixel[first..].first_chunk() {
            Some(values) => deviations.add(&centres, values),
            None => deviations.add(&centres, &padded(pixel)),
        }
    }
    (centres, deviations)
}

/// Fills one item's part of [`Scratch::affine`] from its part of [`Scratch::sums`].
fn fill_affine<E: Compute>(op: &GroupNorm<'_, Cpu<E>>, item: usize, sums: &mut [f64], affine: &mut [f32]) {
    let channels = op.x.shape().channels();
    let per_group = channels / op.groups;
    let (centres, affine) = affine.split_at_mut(channels);
    let (scales, offsets) = affine.split_at_mut(channels);
    let mut blocks = sums.chunks_exact_mut(2 * op.groups);
    let total = blocks.next().expect("a block at least");
    for block in blocks {
        for (total, sum) in total.iter_mut().zip(block) {
            *total += *sum;
        }
    }
    for group in 0..op.groups {
        let (count, sum, squares) = (item / op.groups, total[group], total[op.groups + group]);
        let Normaliser { scale, rest } = Normaliser::new(sum, squares, count, op.eps);
        // The mean's nearest f32 is taken off first, which near the mean is exact; what it lacks comes off with the rest.
        let centre = (sum / count as f64) as f32;
        let rest = rest + f64::from(centre) * scale;
        for c in group * per_group..(group + 1) * per_group {
            let [gamma, beta] = [op.gamma, op.beta].map(|of| f64::from(of.data()[c].widen()));
            centres[c] = centre;
            scales[c] = (scale * gamma) as f32;
            offsets[c] = (rest * gamma + beta) as f32;
        }
    }
}
