//! One plane of one channel after another, in parallel.

use super::threads::for_each_block;
use super::{Compute, Cpu};
use crate::ops::Blend;
use crate::tensor::{Shaped, Tensor};

/// What a value costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 32;

pub(super) fn blend<E: Compute>(op: &Blend<'_, Cpu<E>>, y: &mut Tensor) {
    let (shape, mask) = (y.shape(), op.mask.shape());
    let (channels, plane) = (shape[1], shape[2] * shape[3]);
    let flops = FLOPS_PER_VALUE * shape.elements() as u64;
    for_each_block(y.data_mut(), channels * plane, plane, flops, |n, c, y| {
        let at = (n * channels + c) * plane;
        // A mask of extent 1 is broadcast: its only item or channel is `n % 1`.
        let masks = &op.mask.data()[(n % mask[0] * mask[1] + c % mask[1]) * plane..];
        for (((y, a), b), mask) in y.iter_mut().zip(&op.a.data()[at..]).zip(&op.b.data()[at..]).zip(masks) {
            *y = mask * a + (1.0 - mask) * b;
        }
    });
}
