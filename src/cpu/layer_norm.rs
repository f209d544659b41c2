//! Blocks of rows in parallel. A row is summed in f64 in a fixed number of lanes, then normalised while it is in cache.

use super::moments::{Normaliser, accumulate};
use super::threads::for_each_block;
use super::{Compute, Cpu};
use crate::ops::LayerNorm;
use crate::pool::PooledTensor;
use crate::simd::vectorised;
use crate::tensor::Shaped;

/// Rows of a block.
const ROWS: usize = 64;
/// Partial sums of a row.
const LANES: usize = 16;
/// What one value costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 32;

pub(super) fn layer_norm<E: Compute>(op: &LayerNorm<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let (channels, values) = (op.x.shape().channels(), y.data().len());
    let block = ROWS * channels;
    for_each_block(y.data_mut(), values, block, FLOPS_PER_VALUE * values as u64, |_, b, y| {
        let x = &op.x.data()[b * block..][..y.len()];
        vectorised(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    normalise(op, x, y);
                }
            },
        );
    });
}

#[inline(always)]
fn normalise<E: Compute>(op: &LayerNorm<'_, Cpu<E>>, x: &[E], y: &mut [E]) {
    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    x.chunks(LANES).for_each(|x| accumulate(&mut sums, &mut squares, x));
    let normaliser = Normaliser::new(sums.iter().sum(), squares.iter().sum(), x.len(), op.eps);
    for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(op.gamma.data()).zip(op.beta.data()) {
        *y = E::narrow(normaliser.affine(gamma.widen(), beta.widen()).apply(x.widen()));
    }
}
