//! Noise into the output, part after part; then the terms, block by block.

use super::threads::for_each_block;
use super::{Compute, Cpu};
use crate::ops::Inject;
use crate::rng::fill_parts;
use crate::simd::vectorised;
use crate::tensor::Tensor;

/// Values of a block.
const BLOCK: usize = 4096;
/// What a value of one term costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 16;

pub(super) fn inject<E: Compute>(op: &Inject<'_, Cpu<E>>, y: &mut Tensor) {
    let (strength, draws) = op.noise;
    fill_parts(draws, y.data_mut());
    let values = y.data().len();
    let flops = FLOPS_PER_VALUE * ((op.terms.len() + 1) * values) as u64;
    for_each_block(y.data_mut(), values, BLOCK, flops, |_, b, y| {
        vectorised(
            #[inline(always)]
            || {
                for (i, y) in y.iter_mut().enumerate() {
                    let at = b * BLOCK + i;
                    let sum =
                        op.terms.iter().fold(0.0, |sum, (coefficient, x)| sum + coefficient * x.data()[at]);
                    *y = sum + strength * *y;
                }
            },
        );
    });
}
