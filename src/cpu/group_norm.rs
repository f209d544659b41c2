//! Two passes, each over blocks of pixels in parallel: the first sums every channel in f64, which for channels last
//! needs no gathering; the second applies one multiply-add per channel and the activation. Between them the blocks' sums
//! are added up in their order, so the statistics have the same bits at any number of threads.

use super::math::activate;
use super::moments::{Affine, Normaliser, accumulate};
use super::threads::for_each_block;
use super::{Compute, Cpu};
use crate::ops::GroupNorm;
use crate::simd::vectorised;
use crate::tensor::{Shaped, Tensor};

/// Pixels of a block.
const PIXELS: usize = 64;
/// What a pass over one value costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 32;

pub(super) fn group_norm<E: Compute>(op: &GroupNorm<'_, Cpu<E>>, y: &mut Tensor<E>) {
    let shape = op.x.shape();
    let (channels, item) = (shape.channels(), shape.elements() / shape[0]);
    let sums = sums(op, item);
    let affine: Vec<Affine> =
        sums.chunks_exact(sums.len() / shape[0]).flat_map(|sums| affine(op, item, sums)).collect();

    let flops = FLOPS_PER_VALUE * shape.elements() as u64;
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

/// For each item and block of pixels, the sum of every channel, then the sum of its squares.
fn sums<E: Compute>(op: &GroupNorm<'_, Cpu<E>>, item: usize) -> Vec<f64> {
    let shape = op.x.shape();
    let (channels, block) = (shape.channels(), PIXELS * shape.channels());
    let blocks = item.div_ceil(block);
    let mut sums = vec![0.0; shape[0] * blocks * 2 * channels];
    let flops = FLOPS_PER_VALUE * shape.elements() as u64;
    for_each_block(&mut sums, blocks * 2 * channels, 2 * channels, flops, |n, b, sums| {
        let x = &op.x.data()[n * item..][..item];
        let x = &x[b * block..item.min((b + 1) * block)];
        let (sums, squares) = sums.split_at_mut(channels);
        vectorised(
            #[inline(always)]
            || x.chunks_exact(channels).for_each(|x| accumulate(sums, squares, x)),
        );
    });
    sums
}

/// What each channel of one item goes through, given that item's part of [`sums`].
fn affine<E: Compute>(op: &GroupNorm<'_, Cpu<E>>, item: usize, sums: &[f64]) -> impl Iterator<Item = Affine> {
    let channels = op.x.shape().channels();
    let per_group = channels / op.groups;
    // The sum over one group's channels, `first..`, in every block.
    let total = move |first: usize| -> f64 {
        sums.chunks_exact(2 * channels).flat_map(|sums| &sums[first..first + per_group]).sum()
    };
    (0..op.groups).flat_map(move |group| {
        let first = group * per_group;
        let (sum, squares) = (total(first), total(channels + first));
        let normaliser = Normaliser::new(sum, squares, item / op.groups, op.eps);
        (first..first + per_group)
            .map(move |c| normaliser.affine(op.gamma.data()[c].widen(), op.beta.data()[c].widen()))
    })
}
