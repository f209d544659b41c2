//! Blocks of rows in parallel; within one, tiles of columns that stay in cache between the product and its epilogue.
//! GEGLU computes a tile of values and the tile of their gates side by side in scratch memory, then multiplies them into
//! `y`.

use std::ops::Range;

use super::epilogue::{Addend, Epilogue, add};
use super::gemm::{View, block_rows, gemm};
use super::math::gelu;
use super::threads::{for_each_block, with_scratch};
use super::{Compute, Cpu};
use crate::ops::{Activation, Linear};
use crate::pool::PooledTensor;
use crate::simd::vectorised;
use crate::tensor::Shaped;

/// Columns of a tile.
const COLUMNS: usize = 512;

pub(super) fn linear<E: Compute>(op: &Linear<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let inputs = op.x.shape().channels();
    let channels = y.shape().channels();
    let block = block_rows(y.shape().rows());
    let item = y.data().len();
    for_each_block(y.data_mut(), item, block * channels, op.flops(), |_, b, narrow| {
        let first_row = b * block;
        let rows = narrow.len() / channels;
        let mut y = vec![0.0; narrow.len()];
        let y = y.as_mut_slice();
        let x: Vec<f32> =
            op.x.data()[first_row * inputs..][..rows * inputs].iter().map(|x| x.widen()).collect();
        let x = View::rows(&x, [rows, inputs], inputs);
        for columns in tiles(channels, COLUMNS) {
            if op.activation == Activation::Geglu {
                geglu_tile(op, x, y, channels, columns);
            } else {
                tile(op, x, y, channels, first_row, columns);
            }
        }
        narrow.iter_mut().zip(y).for_each(|(narrow, y)| *narrow = E::narrow(*y));
    });
}

/// `0..extent` in ranges of at most `tile`.
pub(super) fn tiles(extent: usize, tile: usize) -> impl Iterator<Item = Range<usize>> {
    (0..extent).step_by(tile).map(move |start| start..extent.min(start + tile))
}

fn tile<E: Compute>(
    op: &Linear<'_, Cpu<E>>,
    x: View<'_>,
    y: &mut [f32],
    channels: usize,
    first_row: usize,
    columns: Range<usize>,
) {
    let inputs = op.x.shape().channels();
    let weight = op.weight.part(0..inputs, columns.clone());
    gemm(&mut y[columns.start..], channels, x, weight, false);
    let bias = op.bias.map(|bias| Addend::row(bias.data()));
    let residual = op.residual.map(|residual| Addend::rows(residual.data(), channels));
    let epilogue = Epilogue { addends: [bias, residual, None], activation: op.activation };
    epilogue.apply(y, channels, first_row, columns);
}

fn geglu_tile<E: Compute>(
    op: &Linear<'_, Cpu<E>>,
    x: View<'_>,
    y: &mut [f32],
    channels: usize,
    columns: Range<usize>,
) {
    let inputs = op.x.shape().channels();
    let width = columns.len();
    let gates = channels + columns.start..channels + columns.end;
    with_scratch(y.len() / channels * 2 * width, |scratch| {
        gemm(scratch, 2 * width, x, op.weight.part(0..inputs, columns.clone()), false);
        gemm(&mut scratch[width..], 2 * width, x, op.weight.part(0..inputs, gates.clone()), false);
        vectorised(
            #[inline(always)]
            || {
                for (z, y) in scratch.chunks_exact_mut(2 * width).zip(y.chunks_exact_mut(channels)) {
                    let (value, gate) = z.split_at_mut(width);
                    if let Some(bias) = op.bias {
                        add(value, &bias.data()[columns.clone()]);
                        add(gate, &bias.data()[gates.clone()]);
                    }
                    for ((y, value), gate) in y[columns.clone()].iter_mut().zip(value).zip(gate) {
                        *y = *value * gelu(*gate);
                    }
                }
            },
        );
    });
}
