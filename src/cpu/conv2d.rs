//! Implicit im2col: blocks of output pixels in parallel, rows of one long product. For each few taps of the kernel the
//! pixels that they see are gathered into a small tile, upsampling folded in, which the weight's rows for those taps
//! multiply; so the im2col matrix never exists.

use std::ops::Range;

use super::epilogue::{Addend, Epilogue};
use super::gemm::{View, block_rows, gemm};
use super::linear::tiles;
use super::threads::{for_each_block, with_scratch};
use super::{Compute, Cpu};
use crate::ops::Conv2d;
use crate::pool::PooledTensor;
use crate::tensor::Shaped;

/// How many values are gathered for a pixel at a time, unless one tap needs more.
const GATHERED: usize = 576;

pub(super) fn conv2d<E: Compute>(op: &Conv2d<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let [items, height, width, outputs] = four(y);
    let bias = op.bias.map(|bias| Addend::row(bias.data()));
    let shift = op.shift.as_ref().map(|shift| {
        let stride = shift.table.shape().channels();
        Addend {
            values: &shift.table.data()[shift.rows.start * stride + shift.first..],
            stride,
            shared_by: shift.items_per_row(items) * height * width,
        }
    });
    let residual = op.residual.map(|residual| Addend::rows(residual.data(), outputs));
    let epilogue = Epilogue { addends: [bias, shift, residual], activation: op.activation };
    let block = block_rows(y.shape().rows());
    let item = y.data().len();
    for_each_block(y.data_mut(), item, block * outputs, op.flops(), |_, b, narrow| {
        let mut y = vec![0.0; narrow.len()];
        let y = y.as_mut_slice();
        let pixels = b * block..b * block + y.len() / outputs;
        multiply(op, [height, width], pixels.clone(), y);
        epilogue.apply(y, outputs, pixels.start, 0..outputs);
        narrow.iter_mut().zip(y).for_each(|(narrow, y)| *narrow = E::narrow(*y));
    });
}

/// The sums over the taps for some pixels of the output, which is `extents` high and wide.
fn multiply<E: Compute>(op: &Conv2d<'_, Cpu<E>>, extents: [usize; 2], pixels: Range<usize>, y: &mut [f32]) {
    let [outputs, kernel, _, inputs] = four(op.weight);
    let taps_at_once = (GATHERED / inputs).clamp(1, kernel * kernel);
    with_scratch(pixels.len() * taps_at_once * inputs, |scratch| {
        for taps in tiles(kernel * kernel, taps_at_once) {
            let depth = taps.len() * inputs;
            gather(op, extents, pixels.clone(), taps.clone(), scratch);
            let x = View::rows(scratch, [pixels.len(), depth], depth);
            let weight = op.weight.part(taps.start * inputs..taps.end * inputs, 0..outputs);
            gemm(y, outputs, x, weight, taps.start > 0);
        }
    });
}

/// Copies what `taps` of the kernel see at each of `pixels`: a row of `taps x channels` for each pixel.
fn gather<E: Compute>(
    op: &Conv2d<'_, Cpu<E>>,
    [height, width]: [usize; 2],
    pixels: Range<usize>,
    taps: Range<usize>,
    tile: &mut [f32],
) {
    let kernel = op.weight.shape()[1];
    let channels = op.x.shape().channels();
    for (pixel, row) in pixels.zip(tile.chunks_exact_mut(taps.len() * channels)) {
        let (n, i, j) = (pixel / (height * width), pixel / width % height, pixel % width);
        for (tap, values) in taps.clone().zip(row.chunks_exact_mut(channels)) {
            match seen(op, i * op.stride + tap / kernel, j * op.stride + tap % kernel) {
                Some([i, j]) => {
                    let [_, height, width, _] = four(op.x);
                    let first = ((n * height + i) * width + j) * channels;
                    values.iter_mut().zip(&op.x.data()[first..]).for_each(|(value, x)| *value = x.widen());
                }
                None => values.fill(0.0),
            }
        }
    }
}

/// Where `x'[i - p, j - p]` lies in `x`; `None` in the padding.
fn seen<E: Compute>(op: &Conv2d<'_, Cpu<E>>, i: usize, j: usize) -> Option<[usize; 2]> {
    let [_, height, width, _] = four(op.x);
    let padding = (op.weight.shape()[1] - 1) / 2;
    let [seen_height, seen_width] = op.upsample.unwrap_or([height, width]);
    let halved = usize::from(op.upsample.is_some());
    let inside = |at: usize, extent| Some(at.checked_sub(padding).filter(|&at| at < extent)? >> halved);
    Some([inside(i, seen_height)?, inside(j, seen_width)?])
}

fn four(t: &impl Shaped) -> [usize; 4] {
    let shape = t.shape();
    [shape[0], shape[1], shape[2], shape[3]]
}
