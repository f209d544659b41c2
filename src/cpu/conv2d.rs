//! A product whose rows are the pixels of the output, and whose terms are what each tap of the kernel sees: some pixel
//! of `x`, whose channels lie together. Upsampling and stride are in where it looks, padding is a row of zeros.

use super::epilogue::{Addend, Epilogue};
use super::product::{self, Places, Rows};
use super::{Compute, Cpu, four, winograd};
use crate::error::Result;
use crate::ops::Conv2d;
use crate::pool::{HostMemory, Pool, PooledTensor};
use crate::tensor::{Shape, Shaped};

/// Room for a product of this form.
pub(super) fn room<E: Compute>(
    op: &Conv2d<'_, Cpu<E>>,
    output: Shape,
    pool: &Pool<HostMemory>,
) -> Result<Option<PooledTensor<E>>> {
    product::room(op.weight, &Pixels::new(op, [output[1], output[2]]), pool)
}

pub(super) fn conv2d<E: Compute>(
    op: &Conv2d<'_, Cpu<E>>,
    room: Option<&mut PooledTensor<E>>,
    y: &mut PooledTensor<E>,
) {
    let [items, height, width, outputs] = four(y);
    let shift = op.shift.as_ref().map(|shift| {
        let stride = shift.table.shape().channels();
        Addend { values: &shift.table.data()[shift.first..], stride, shared_by: height * width }
    });
    let residual = op.residual.map(|residual| Addend::rows(residual.data(), outputs));
    let bias = op.bias.map(PooledTensor::data);
    let epilogue = Epilogue { bias, shift, residual, activation: op.activation };
    let pixels = Pixels::new(op, [height, width]);
    if op.stride == 1 && winograd::takes(op.weight, [height, width]) {
        let patches = pixels.patches(winograd::INNER);
        winograd::winograd(op.weight, &patches, items, [height, width], &epilogue, y.data_mut());
        return;
    }
    product::product(op.weight, &pixels, y.data_mut(), outputs, [0], &epilogue, room);
}

/// The pixels of an output.
pub(super) struct Pixels<'a, E> {
    x: &'a [E],
    items: usize,
    /// Height, width and channels of `x`.
    extents: [usize; 3],
    /// Height and width of `x'`.
    upsampled: [usize; 2],
    /// By how many bits a place in `x'` is shifted to give one in `x`.
    halved: u32,
    /// Height and width of the output.
    pub(super) output: [usize; 2],
    stride: usize,
    kernel: usize,
    padding: isize,
}

/// A pixel of an output: its item, and where in `x'` the kernel's first tap lies, which padding may put outside.
#[derive(Clone, Copy)]
pub(super) struct Pixel {
    item: usize,
    i: isize,
    j: isize,
}

impl<'a, E: Compute> Pixels<'a, E> {
    fn new(op: &Conv2d<'a, Cpu<E>>, output: [usize; 2]) -> Self {
        let [items, height, width, channels] = four(op.x);
        Pixels {
            x: op.x.data(),
            items,
            extents: [height, width, channels],
            upsampled: op.upsample.unwrap_or([height, width]),
            halved: op.upsample.is_some().into(),
            output,
            stride: op.stride,
            kernel: op.weight.shape()[1],
            padding: (op.weight.shape()[1] as isize - 1) / 2,
        }
    }

    /// The patches of `x'` that `inner` by `inner` pixels of the output each are made of under a 3x3 kernel: a row for
    /// each patch, a tap for each pixel of one.
    fn patches(self, inner: usize) -> Self {
        let output = self.output.map(|extent| extent.div_ceil(inner));
        Pixels { output, stride: inner, kernel: inner + 2, ..self }
    }

    /// Height and width of what an item's output sees of `x'`, padding included.
    fn padded(&self) -> [usize; 2] {
        self.output.map(|extent| (extent - 1) * self.stride + self.kernel)
    }

    /// The channels of the pixel of `x'` that is `i` below and `j` right of where `pixel` begins; `None` in the padding.
    #[inline(always)]
    pub(super) fn seen_from(&self, pixel: Pixel, [i, j]: [usize; 2]) -> Option<&[E]> {
        let [height, width, channels] = self.extents;
        let [i, j] = [pixel.i.checked_add_unsigned(i)?, pixel.j.checked_add_unsigned(j)?];
        let [i, j] = [usize::try_from(i).ok()?, usize::try_from(j).ok()?];
        if i >= self.upsampled[0] || j >= self.upsampled[1] {
            return None;
        }
        let pixel = (pixel.item * height + (i >> self.halved)) * width + (j >> self.halved);
        Some(&self.x[pixel * channels..][..channels])
    }
}

impl<E: Compute> Rows<E> for Pixels<'_, E> {
    type Row = Pixel;

    #[inline(always)]
    fn row(&self, row: usize) -> Pixel {
        let [height, width] = self.output;
        let first = |at: usize| (at * self.stride) as isize - self.padding;
        Pixel { item: row / (height * width), i: first(row / width % height), j: first(row % width) }
    }

    #[inline(always)]
    fn next(&self, pixel: Pixel) -> Pixel {
        let [height, width] = self.output.map(|extent| (extent * self.stride) as isize - self.padding);
        let mut next = Pixel { j: pixel.j + self.stride as isize, ..pixel };
        if next.j >= width {
            next = Pixel { i: pixel.i + self.stride as isize, j: -self.padding, ..pixel };
        }
        if next.i >= height {
            next = Pixel { item: pixel.item + 1, i: -self.padding, ..next };
        }
        next
    }

    #[inline(always)]
    fn seen(&self, pixel: Pixel, tap: usize) -> Option<&[E]> {
        self.seen_from(pixel, [tap / self.kernel, tap % self.kernel])
    }
}

/// Those are the pixels of each item's `x'` with its padding.
impl<E: Compute> Places<E> for Pixels<'_, E> {
    fn count(&self) -> usize {
        self.items * self.padded().iter().product::<usize>()
    }
    fn line(&self) -> usize {
        self.output[1]
    }
    fn spacing(&self) -> usize {
        self.stride
    }
    fn place(&self, row: usize, tap: usize) -> usize {
        let ([height, width], [high, wide]) = (self.output, self.padded());
        let (item, i, j) = (row / (height * width), row / width % height, row % width);
        let line = item * high + i * self.stride + tap / self.kernel;
        line * wide + j * self.stride + tap % self.kernel
    }
    #[inline(always)]
    fn at(&self, place: usize) -> Option<&[E]> {
        let [high, wide] = self.padded();
        let first = Pixel { item: place / (high * wide), i: -self.padding, j: -self.padding };
        self.seen_from(first, [place / wide % high, place % wide])
    }
    fn all(&self) -> Option<&[E]> {
        None
    }
}
