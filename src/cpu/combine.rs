//! Blocks of values in parallel; within one, term after term while it is in cache.

use super::threads::for_each_block;
use super::{Compute, Cpu};
use crate::ops::Combine;
use crate::simd::vectorised;
use crate::tensor::Tensor;

/// Values of a block.
const BLOCK: usize = 4096;
/// What a value of one term costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 16;

pub(super) fn combine<E: Compute>(op: &Combine<'_, Cpu<E>>, y: &mut Tensor) {
    let Some((&first, others)) = op.terms.split_first() else { return };
    let values = y.data().len();
    let flops = FLOPS_PER_VALUE * (op.terms.len() * values) as u64;
    for_each_block(y.data_mut(), values, BLOCK, flops, |_, b, y| {
        vectorised(
            #[inline(always)]
            || {
                let (coefficient, x) = first;
                for (y, x) in y.iter_mut().zip(&x.data()[b * BLOCK..]) {
                    *y = coefficient * x;
                }
                for &(coefficient, x) in others {
                    for (y, x) in y.iter_mut().zip(&x.data()[b * BLOCK..]) {
                        *y += coefficient * x;
                    }
                }
            },
        );
    });
}
