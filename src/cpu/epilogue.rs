use std::ops::Range;

use super::Compute;
use super::math::activate;
use crate::ops::Activation;
use crate::simd::vectorised;

/// What follows a product while its block is still in cache: additions, then an elementwise activation.
pub(super) struct Epilogue<'a, E: Compute> {
    pub(super) addends: [Option<Addend<'a, E>>; 3],
    pub(super) activation: Activation,
}

/// What is added to a product.
pub(super) struct Addend<'a, E: Compute> {
    pub(super) values: &'a [E],
    /// How far apart its rows start.
    pub(super) stride: usize,
    /// How many consecutive rows of the product share one of its rows.
    pub(super) shared_by: usize,
}

impl<'a, E: Compute> Addend<'a, E> {
    /// One row for all of the product.
    pub(super) fn row(values: &'a [E]) -> Self {
        Addend { values, stride: 0, shared_by: usize::MAX }
    }

    /// As many rows as the product has, `channels` wide.
    pub(super) fn rows(values: &'a [E], channels: usize) -> Self {
        Addend { values, stride: channels, shared_by: 1 }
    }
}

impl<E: Compute> Epilogue<'_, E> {
    /// Finishes `columns` of `block`: rows `first_row..` of the output, `channels` wide.
    pub(super) fn apply(&self, block: &mut [f32], channels: usize, first_row: usize, columns: Range<usize>) {
        vectorised(
            #[inline(always)]
            || {
                for (row, y) in (first_row..).zip(block.chunks_exact_mut(channels)) {
                    let y = &mut y[columns.clone()];
                    for Addend { values, stride, shared_by } in self.addends.iter().flatten() {
                        add(y, &values[row / shared_by * stride..][columns.clone()]);
                    }
                    y.iter_mut().for_each(|y| *y = activate(*y, self.activation));
                }
            },
        );
    }
}

/// `y += addend`.
#[inline(always)]
pub(super) fn add<E: Compute>(y: &mut [f32], addend: &[E]) {
    for (y, addend) in y.iter_mut().zip(addend) {
        *y += addend.widen();
    }
}
