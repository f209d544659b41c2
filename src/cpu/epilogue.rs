use std::ops::Range;

use super::Compute;
use super::math::activate;
use crate::ops::Activation;

/// What follows a product: additions, then an elementwise activation.
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
    /// Writes to `y`, some columns of a row, what their sums become.
    #[inline(always)]
    pub(super) fn finish(&self, row: usize, columns: Range<usize>, sums: &mut [f32], y: &mut [E]) {
        for Addend { values, stride, shared_by } in self.addends.iter().flatten() {
            let addend = &values[row / shared_by * stride..][columns.clone()];
            for (sum, addend) in sums.iter_mut().zip(addend) {
                *sum += addend.widen();
            }
        }
        // A loop for each: a choice within one keeps it from vectorising.
        let y = y.iter_mut().zip(&*sums);
        match self.activation {
            Activation::Silu => y.for_each(|(y, &sum)| *y = E::narrow(activate(sum, Activation::Silu))),
            Activation::Relu => y.for_each(|(y, &sum)| *y = E::narrow(activate(sum, Activation::Relu))),
            Activation::Identity | Activation::Geglu => y.for_each(|(y, &sum)| *y = E::narrow(sum)),
        }
    }
}
