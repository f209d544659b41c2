//! One copy for each item, of some tens of kilobytes, once in a step.

use super::{Compute, Cpu};
use crate::ops::Rows;
use crate::pool::PooledTensor;
use crate::tensor::Shaped;

pub(super) fn rows<E: Compute>(op: &Rows<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let width = y.shape().channels();
    for (n, row) in y.data_mut().chunks_exact_mut(width).enumerate() {
        row.copy_from_slice(&op.table.data()[op.of_item(n) * width..][..width]);
    }
}
