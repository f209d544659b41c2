//! Entering is shared by rows of pixels, leaving by planes of one channel.

use super::threads::for_each_block;
use super::{Compute, Cpu, four};
use crate::ops::{Enter, Leave};
use crate::pool::PooledTensor;
use crate::tensor::{Shaped, Tensor};

/// What a moved value costs, in floating-point operations of a matrix product.
const FLOPS_PER_VALUE: u64 = 64;

pub(super) fn enter<E: Compute>(op: &Enter<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let [items, height, width, channels] = four(y);
    let flops = FLOPS_PER_VALUE * y.data().len() as u64;
    let batch = items / op.copies;
    for_each_block(y.data_mut(), height * width * channels, width * channels, flops, |n, i, y| {
        let mut first = 0;
        for &(scale, part) in op.parts {
            let part_channels = part.shape()[1];
            for c in 0..part_channels {
                let x = &part.data()[((n % batch * part_channels + c) * height + i) * width..][..width];
                for (pixel, x) in y.chunks_exact_mut(channels).zip(x) {
                    pixel[first + c] = E::narrow(scale * x);
                }
            }
            first += part_channels;
        }
    });
}

pub(super) fn leave<E: Compute>(op: &Leave<'_, Cpu<E>>, y: &mut Tensor) {
    let [items, channels, height, width] = four(y);
    let flops = FLOPS_PER_VALUE * y.data().len() as u64;
    let plane = height * width;
    for_each_block(y.data_mut(), channels * plane, plane, flops, |n, c, y| {
        let x = &op.x.data()[(op.branch * items + n) * plane * channels..];
        for (y, pixel) in y.iter_mut().zip(x.chunks_exact(channels)) {
            *y = pixel[c].widen();
        }
    });
}
