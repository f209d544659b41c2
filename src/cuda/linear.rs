use bytemuck::{Pod, Zeroable};

use super::launch::Launcher;
use super::product::{Addends, Epilogue, Factors, Image, Product, Rows, count, run, whole_chunks};
use super::{Compute, Cuda, DeviceTensor};
use crate::error::Result;
use crate::ops::{self, Activation};
use crate::tensor::Shaped;

/// As `kernels/linear.cu` has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Linear {
    pub(super) x: u64,
    pub(super) weight: u64,
    pub(super) inputs: u32,
    pub(super) depth: u32,
    pub(super) whole: u32,
    pub(super) padding: u32,
    pub(super) epilogue: Epilogue,
}

pub(super) fn linear<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &ops::Linear<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    let (rows, inputs) = (op.x.shape().rows(), op.x.shape().channels());
    let product = Product {
        from: Rows::Matrix,
        image: Some(Image::of_matrix(rows, inputs)),
        element: E::DTYPE,
        rows,
        item_rows: rows / op.x.shape().first().copied().unwrap_or(1).max(1),
        columns: y.shape().channels(),
        depth: op.weight.depth(),
        gated: op.activation == Activation::Geglu,
    };
    let addends = Addends { bias: op.bias, shift: None, residual: op.residual, activation: op.activation };
    let factors = Factors { x: op.x.pointer(), weight: op.weight.pointer() };
    let [inputs_count, depth] = [count("inputs", inputs)?, count("depth", product.depth)?];
    run(cuda, &product, factors, &addends, y, |epilogue| Linear {
        x: factors.x,
        weight: factors.weight,
        inputs: inputs_count,
        depth,
        whole: u32::from(whole_chunks::<E>(inputs, &[factors.x])),
        padding: 0,
        epilogue,
    })
}
