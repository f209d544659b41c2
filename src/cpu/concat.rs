//! Blocks of rows in parallel, each two copies per row.

use super::threads::for_each_block;
use super::{Compute, Cpu};
use crate::ops::Concat;
use crate::pool::PooledTensor;
use crate::tensor::Shaped;

/// Rows of a block.
const ROWS: usize = 64;
/// What a copied value costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 16;

pub(super) fn concat<E: Compute>(op: &Concat<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let (a, b) = (op.a.shape().channels(), op.b.shape().channels());
    let (channels, values) = (a + b, y.data().len());
    for_each_block(y.data_mut(), values, ROWS * channels, FLOPS_PER_VALUE * values as u64, |_, block, y| {
        for (row, y) in (block * ROWS..).zip(y.chunks_exact_mut(channels)) {
            let (y_a, y_b) = y.split_at_mut(a);
            y_a.copy_from_slice(&op.a.data()[row * a..][..a]);
            y_b.copy_from_slice(&op.b.data()[row * b..][..b]);
        }
    });
}
