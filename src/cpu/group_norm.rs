//! Two passes, each over blocks of pixels in parallel: the first sums every channel in f64, which for channels last
//! needs no gathering; the second applies one multiply-add per channel and the activation. Between them the blocks' sums
//! are added up in their order, so the statistics have the same bits at any number of threads.

use super::math::activate;
use super::moments::{Affine, Normaliser, accumulate};
use super::threads::for_each_block;
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
    /// For each item and block of pixels, the sum of every channel, then the sum of its squares: `[N, blocks, 2, C]`.
    sums: PooledTensor<f64>,
    /// What each channel of each item goes through: `[N, C]`.
    affine: PooledTensor<Affine>,
}

impl Scratch {
    pub(super) fn new<E: Compute>(pool: &Pool<HostMemory>, op: &GroupNorm<'_, Cpu<E>>) -> Result<Self> {
        let (items, channels) = (op.x.shape()[0], op.x.shape().channels());
        let blocks = (op.x.shape().rows() / items).div_ceil(PIXELS);
        Ok(Scratch {
            sums: PooledTensor::new(pool, [items, blocks, 2, channels])?,
            affine: PooledTensor::new(pool, [items, channels])?,
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
    fill_sums(op, item, sums.data_mut());
    let sums = sums.data();
    let per_item = sums.chunks_exact(sums.len() / shape[0]);
    for (sums, affine) in per_item.zip(affine.data_mut().chunks_exact_mut(channels)) {
        fill_affine(op, item, sums, affine);
    }

    let (affine, flops) = (affine.data(), FLOPS_PER_VALUE * shape.elements() as u64);
    for_each_block(y.data_mut(), item, PIXELS * channels, flops, |n, b, y| {
        let affine = &affine[n * channels..][..channels];
        let x = &op.x.data()[n * item + b * PIXELS * channels..][..y.len()];
        vectorised(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    for ((y, x), affine) in y.iter_mut().zip(x).zip(affine) {
                        *y = E::narrow(activate(affine.apply(x.widen()), op.activation));
                    }
                }
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
    for_each_block(sums, blocks * 2 * channels, 2 * channels, flops, |n, b, sums| {
        let x = &op.x.data()[n * item..][..item];
        let x = &x[b * block..item.min((b + 1) * block)];
        sums.fill(0.0);
        let (sums, squares) = sums.split_at_mut(channels);
        vectorised(
            #[inline(always)]
            || x.chunks_exact(channels).for_each(|x| accumulate(sums, squares, x)),
        );
    });
}

/// Fills one item's part of [`Scratch::affine`] from its part of [`Scratch::sums`].
fn fill_affine<E: Compute>(op: &GroupNorm<'_, Cpu<E>>, item: usize, sums: &[f64], affine: &mut [Affine]) {
    let channels = op.x.shape().channels();
    let per_group = channels / op.groups;
    // The sum over one group's channels, `first..`, in every block.
    let total = |first: usize| -> f64 {
        sums.chunks_exact(2 * channels).flat_map(|sums| &sums[first..first + per_group]).sum()
    };
    for (group, affine) in affine.chunks_exact_mut(per_group).enumerate() {
        let first = group * per_group;
        let (sum, squares) = (total(first), total(channels + first));
        let normaliser = Normaliser::new(sum, squares, item / op.groups, op.eps);
        for (c, affine) in (first..).zip(affine) {
            *affine = normaliser.affine(op.gamma.data()[c].widen(), op.beta.data()[c].widen());
        }
    }
}
