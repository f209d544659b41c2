use std::ops::Range;

use super::math::activate;
use crate::ops::Activation;
use crate::simd::vectorised;
use crate::tensor::Tensor;

/// What follows a product while its block is still in cache: additions, then an elementwise activation.
pub(super) struct Epilogue<'a> {
    /// Each with the number of consecutive rows that share one row of it.
    pub(super) addends: [Option<(&'a Tensor, usize)>; 3],
    pub(super) activation: Activation,
}

impl Epilogue<'_> {
    /// Finishes `columns` of `block`: rows `first_row..` of the output, `channels` wide.
    pub(super) fn apply(&self, block: &mut [f32], channels: usize, first_row: usize, columns: Range<usize>) {
        vectorised(
            #[inline(always)]
            || {
                for (row, y) in (first_row..).zip(block.chunks_exact_mut(channels)) {
                    let y = &mut y[columns.clone()];
                    for (addend, rows) in self.addends.iter().flatten() {
                        add(y, &addend.data()[row / rows * channels..][columns.clone()]);
                    }
                    activate(y, self.activation);
                }
            },
        );
    }
}

/// `y += addend`.
#[inline(always)]
pub(super) fn add(y: &mut [f32], addend: &[f32]) {
    for (y, addend) in y.iter_mut().zip(addend) {
        *y += addend;
    }
}
