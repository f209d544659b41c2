//! Blocks of rows in parallel. A row is summed twice, first for a number near its mean, and normalised while it is in the
//! first cache. In f32 throughout, in a fixed number of lanes, so bits are the same on every machine.
//!
//! Tried and lost: sums in f64, which need no second one but half as wide vectors.

use super::moments::{Deviations, LANES, Normaliser, total};
use super::threads::for_each_block;
use super::{Compute, Cpu};
use crate::ops::LayerNorm;
use crate::pool::PooledTensor;
use crate::simd::vectorised;
use crate::tensor::Shaped;

/// Rows of a block.
const ROWS: usize = 16;
/// What one value costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 32;

pub(super) fn layer_norm<E: Compute>(op: &LayerNorm<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let (channels, values) = (op.x.shape().channels(), y.data().len());
    let block = ROWS * channels;
    for_each_block(y.data_mut(), values, block, FLOPS_PER_VALUE * values as u64, |_, b, y| {
        let x = &op.x.data()[b * block..][..y.len()];
        vectorised(
            #[inline(always)]
            || normalise(op, x, y),
        );
    });
}

/// Normalises up to [`ROWS`] rows, one step of all after the other, so that a row does not wait for its own sums.
#[inline(always)]
fn normalise<E: Compute>(op: &LayerNorm<'_, Cpu<E>>, x: &[E], y: &mut [E]) {
    let channels = op.gamma.data().len();
    let (mut centres, mut scales, mut rests) = ([0.0; ROWS], [0.0; ROWS], [0.0; ROWS]);
    for (x, centre) in x.chunks_exact(channels).zip(&mut centres) {
        *centre = total(deviations(x, 0.0).sums) / channels as f32;
    }
    for (((x, centre), scale), rest) in x.chunks_exact(channels).zip(centres).zip(&mut scales).zip(&mut rests)
    {
        let Deviations { sums, squares } = deviations(x, centre);
        let [sum, squares] = [sums, squares].map(|lanes| f64::from(total(lanes)));
        let normaliser = Normaliser::new(sum, squares, channels, op.eps);
        (*scale, *rest) = (normaliser.scale as f32, normaliser.rest as f32);
    }
    let rows = x.chunks_exact(channels).zip(y.chunks_exact_mut(channels));
    for ((((x, y), centre), scale), rest) in rows.zip(centres).zip(scales).zip(rests) {
        for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(op.gamma.data()).zip(op.beta.data()) {
            *y = E::narrow(((x.widen() - centre) * scale + rest) * gamma.widen() + beta.widen());
        }
    }
}

#[inline(always)]
fn deviations<E: Compute>(x: &[E], centre: f32) -> Deviations {
    let mut deviations = Deviations::NONE;
    let (whole, rest) = x.as_chunks();
    whole.iter().for_each(|x| deviations.add(&[centre; LANES], x));
    for (i, x) in rest.iter().enumerate() {
        let deviation = x.widen() - centre;
        deviations.sums[i] += deviation;
        deviations.squares[i] += deviation * deviation;
    }
    deviations
}
