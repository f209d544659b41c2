//! What is planned for an operation, in words: `docs/kernels-floor.md` has it of whole networks.

use super::product::{Gpu, Image, Product, Rows};
use super::{attention, group_norm};
use crate::ops::Activation;
use crate::tensor::DType;
use crate::trace::Operation;

/// Multiprocessors of an H100 SXM.
pub(crate) const MULTIPROCESSORS: u32 = 132;

/// The kernels that compute an operation in f16 on an H100.
pub(crate) fn planned(operation: &Operation) -> String {
    let y = operation.output();
    let product = |from, image, depth, gated| {
        let (rows, columns) = (y.rows(), y.channels());
        let product =
            Product { from, image, element: DType::F16, rows, item_rows: rows / y[0], columns, depth, gated };
        let plan = product.plan(Gpu { multiprocessors: MULTIPROCESSORS, hopper: true });
        let parts = if plan.splits > 1 { format!(", {} parts", plan.splits) } else { String::new() };
        format!("`{}`{parts}", plan.tiles.kernel)
    };
    // As packed weights have them.
    let padded = |channels: usize| channels.next_multiple_of(8);
    match *operation {
        Operation::Linear { x, activation, .. } => {
            let image = Image::of_matrix(y.rows(), x.channels());
            product(Rows::Matrix, Some(image), padded(x.channels()), activation == Activation::Geglu)
        }
        Operation::Conv2d { x, kernel, stride, upsample, .. } => {
            assert!(kernel > 1, "one tap is a matrix");
            let image = Image::of_conv2d(x, kernel, stride, upsample);
            product(Rows::Pixels, image, kernel * kernel * padded(x.channels()), false)
        }
        Operation::Attention { heads, .. } => {
            let plan = attention::plan(DType::F16, y, heads, true).expect("heads that there is a kernel for");
            format!("`{}`", plan.kernel)
        }
        Operation::GroupNorm { x, groups, .. } => {
            match group_norm::plan(DType::F16, x, groups as u32).expect("few values") {
                group_norm::Plans::OnChip(plan) => format!("`{}`", plan.kernel),
                group_norm::Plans::Chunks { moments, apply, .. } => {
                    format!("`{}`, `{}`", moments.kernel, apply.kernel)
                }
            }
        }
        Operation::Rows { .. } => "copies".to_owned(),
        // Their kernels are called as they are.
        _ => format!("`{}`", operation.name()),
    }
}
