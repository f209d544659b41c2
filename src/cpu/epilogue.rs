//! What becomes of sums: some columns of a row at a time, which the nearest cache still has.

use std::ops::Range;

use super::Compute;
use super::compute::widened;
use super::product::{Finish, Finished};
use super::write::write_activated;
use crate::ops::Activation;

/// What follows a product: additions, then an elementwise activation.
pub(super) struct Epilogue<'a, E: Compute> {
    pub(super) bias: Option<&'a [E]>,
    pub(super) shift: Option<Addend<'a, E>>,
    pub(super) residual: Option<Addend<'a, E>>,
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
    /// As many rows as the product has, `channels` wide.
    pub(super) fn rows(values: &'a [E], channels: usize) -> Self {
        Addend { values, stride: channels, shared_by: 1 }
    }

    /// Some columns of its row for a row of the product.
    #[inline(always)]
    fn of(&self, row: usize, columns: &Range<usize>) -> &'a [E] {
        // A division takes as long as a short row's arithmetic.
        let row = if self.shared_by == 1 { row } else { row / self.shared_by };
        &self.values[row * self.stride..][columns.clone()]
    }
}

impl<E: Compute> Finish<E, 1> for Epilogue<'_, E> {
    fn biases(&self) -> [Option<&[E]>; 1] {
        [self.bias]
    }
    #[inline(always)]
    fn reads(&self, row: usize, columns: &Range<usize>) -> &[E] {
        self.residual.as_ref().map(|residual| residual.of(row, columns)).unwrap_or_default()
    }
    #[inline(always)]
    fn rows<'a>(
        &'a self,
        rows: usize,
        row: impl Fn(usize) -> Option<Finished<'a, E, 1>>,
        columns: &Range<usize>,
        [bias]: [&'a [f32]; 1],
    ) {
        match (&self.shift, &self.residual) {
            (None, None) => write_activated(
                rows,
                #[inline(always)]
                |i| row(i).map(|(_, [sums], y)| (y, [sums, bias], [])),
                self.activation,
                #[inline(always)]
                |[sum, bias], []| sum + bias,
            ),
            (Some(addend), None) | (None, Some(addend)) => write_activated(
                rows,
                #[inline(always)]
                |i| row(i).map(|(row, [sums], y)| (y, [sums, bias], [addend.of(row, columns)])),
                self.activation,
                #[inline(always)]
                |[sum, bias], [addend]| sum + bias + addend,
            ),
            (Some(shift), Some(residual)) => write_activated(
                rows,
                #[inline(always)]
                |i| {
                    let (row, [sums], y) = row(i)?;
                    Some((y, [sums, bias], [shift.of(row, columns), residual.of(row, columns)]))
                },
                self.activation,
                #[inline(always)]
                |[sum, bias], [shift, residual]| sum + bias + shift + residual,
            ),
        }
    }
}

/// The bias of some columns, widened; 0 where there is none.
pub(super) fn bias_of<E: Compute, const N: usize>(bias: Option<&[E]>, columns: &Range<usize>) -> [f32; N] {
    widened(bias.map_or(&[], |bias| &bias[columns.clone()]))
}
