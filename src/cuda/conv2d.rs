use bytemuck::{Pod, Zeroable};

use super::launch::{Launcher, count};
use super::linear::Linear;
use super::product::{Addends, Epilogue, Factors, Image, Product, Rows, Shift, run, whole_chunks};
use super::{Compute, Cuda, DeviceTensor};
use crate::error::{Error, Result};
use crate::ops;
use crate::tensor::{Shape, Shaped};

const OP: &str = "conv2d";

/// As `kernels/conv2d.cu` has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Conv2d {
    x: u64,
    weight: u64,
    height: u32,
    width: u32,
    channels: u32,
    seen_height: u32,
    seen_width: u32,
    upsample: u32,
    y_height: u32,
    y_width: u32,
    kernel: u32,
    stride: u32,
    tap: u32,
    whole: u32,
    epilogue: Epilogue,
}

pub(super) fn conv2d<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &ops::Conv2d<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    let [_, height, width, channels] = counts(op.x.shape())?;
    let [items, y_height, y_width, _] = counts(y.shape())?;
    let kernel = count(OP, "kernel", op.weight.shape()[1])?;
    // A kernel of one tap that sees every pixel once is a matrix.
    let matrix = kernel == 1 && op.stride == 1 && op.upsample.is_none();
    let rows = y.shape().rows();
    let image = if matrix {
        Some(Image::of_matrix(rows, channels as usize))
    } else {
        Image::of_conv2d(op.x.shape(), kernel as usize, op.stride, op.upsample)
    };
    let product = Product {
        from: if matrix { Rows::Matrix } else { Rows::Pixels },
        image,
        element: E::DTYPE,
        rows,
        item_rows: rows / items as usize,
        columns: y.shape().channels(),
        depth: op.weight.depth(),
        gated: false,
    };
    let shift = op.shift.as_ref().map(|shift| {
        let first = (shift.first * size_of::<E>()) as u64;
        Shift {
            pointer: shift.table.pointer() + first,
            rows: product.item_rows,
            stride: shift.table.shape().channels(),
        }
    });
    let addends = Addends { bias: op.bias, shift, residual: op.residual, activation: op.activation };
    let factors = Factors { x: op.x.pointer(), weight: op.weight.pointer() };
    let Factors { x, weight } = factors;
    let whole = u32::from(whole_chunks::<E>(channels as usize, &[x]));
    let depth = count(OP, "depth", product.depth)?;
    if matrix {
        return run(cuda, &product, factors, &addends, y, |epilogue| Linear {
            x,
            weight,
            inputs: channels,
            depth,
            whole,
            padding: 0,
            epilogue,
        });
    }
    if u32::try_from(op.x.shape().elements()).is_err() {
        let (what, expected) = ("x", "less than 2^32 values".into());
        return Err(Error::Value { op: OP, what, expected, got: op.x.shape().to_string() });
    }
    let [seen_height, seen_width] =
        op.upsample.map_or([height, width], |seen| seen.map(|extent| extent as u32));
    run(cuda, &product, factors, &addends, y, |epilogue| Conv2d {
        x,
        weight,
        height,
        width,
        channels,
        seen_height,
        seen_width,
        upsample: u32::from(op.upsample.is_some()),
        y_height,
        y_width,
        kernel,
        stride: op.stride as u32,
        tap: depth / (kernel * kernel),
        whole,
        epilogue,
    })
}

fn counts(shape: Shape) -> Result<[u32; 4]> {
    let mut counts = [0; 4];
    for (to, &extent) in counts.iter_mut().zip(&*shape) {
        *to = count(OP, "extent", extent)?;
    }
    Ok(counts)
}
