//! What becomes of sums: some columns of a row at a time, which the nearest cache still has.

use std::ops::Range;

use super::Compute;
use super::math::activate;
use super::product::Finish;
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

    /// From where its row for a row of the product begins.
    #[inline(always)]
    fn of(&self, row: usize) -> &'a [E] {
        // A division takes as long as a short row's arithmetic.
        let row = match self.shared_by {
            1 => row,
            usize::MAX => 0,
            shared_by => row / shared_by,
        };
        &self.values[row * self.stride..]
    }
}

impl<E: Compute> Finish<E, 1> for Epilogue<'_, E> {
    #[inline(always)]
    fn reads(&self, row: usize, columns: Range<usize>) -> &[E] {
        let residual = self.addends.iter().flatten().find(|addend| addend.shared_by == 1);
        residual.map(|addend| &addend.of(row)[columns]).unwrap_or_default()
    }
    #[inline(always)]
    fn row(&self, row: usize, columns: Range<usize>, [sums]: [&[f32]; 1], y: &mut [E]) {
        self.finish(row, columns, sums, y);
    }
}

impl<E: Compute> Epilogue<'_, E> {
    /// Writes to `y`, some columns of a row, what their sums become.
    #[inline(always)]
    pub(super) fn finish(&self, row: usize, columns: Range<usize>, sums: &[f32], y: &mut [E]) {
        let mut addends: [&[E]; 3] = [&[]; 3];
        let mut count = 0;
        for addend in self.addends.iter().flatten() {
            addends[count] = &addend.of(row)[columns.clone()];
            count += 1;
        }
        let of = Sums { sums, addends: &addends[..count] };
        // A loop for each: a choice within one keeps it from vectorising.
        match self.activation {
            Activation::Silu => write(
                y,
                &Activated(
                    of,
                    #[inline(always)]
                    |sum| activate::<E>(sum, Activation::Silu),
                ),
            ),
            Activation::Relu => write(
                y,
                &Activated(
                    of,
                    #[inline(always)]
                    |sum| activate::<E>(sum, Activation::Relu),
                ),
            ),
            Activation::Identity | Activation::Geglu => write(y, &of),
        }
    }
}

/// The columns that are taken at once.
const LANES: usize = 16;

/// A row, whose columns are computed when they are asked for.
pub(super) trait Row {
    /// Columns `first..first + N`. Of arrays that are computed with as values, compilers make vectors; of slices, which
    /// might overlap, they do not.
    fn columns<const N: usize>(&self, first: usize) -> [f32; N];
}

/// Writes a row to `y`.
#[inline(always)]
pub(super) fn write<E: Compute>(y: &mut [E], row: &impl Row) {
    let (whole, rest) = y.as_chunks_mut::<LANES>();
    let last = whole.len() * LANES;
    for (i, y) in whole.iter_mut().enumerate() {
        *y = narrow(row.columns(i * LANES));
    }
    for (i, y) in rest.iter_mut().enumerate() {
        [*y] = narrow(row.columns(last + i));
    }
}

/// Values `first..first + N`, widened.
#[inline(always)]
pub(super) fn widen<E: Compute, const N: usize>(values: &[E], first: usize) -> [f32; N] {
    let values: &[E; N] = values[first..].first_chunk().expect("as many columns as the row that is written");
    let mut wide = [0.0; N];
    for (wide, value) in wide.iter_mut().zip(values) {
        *wide = value.widen();
    }
    wide
}

#[inline(always)]
fn narrow<E: Compute, const N: usize>(values: [f32; N]) -> [E; N] {
    let mut narrow = [E::default(); N];
    for (narrow, value) in narrow.iter_mut().zip(values) {
        *narrow = E::narrow(value);
    }
    narrow
}

/// Sums, and what is added to them.
pub(super) struct Sums<'a, E> {
    pub(super) sums: &'a [f32],
    pub(super) addends: &'a [&'a [E]],
}

impl<E: Compute> Row for Sums<'_, E> {
    #[inline(always)]
    fn columns<const N: usize>(&self, first: usize) -> [f32; N] {
        let mut sums = widen(self.sums, first);
        for addend in self.addends {
            let addend = widen::<_, N>(addend, first);
            for (sum, addend) in sums.iter_mut().zip(addend) {
                *sum += addend;
            }
        }
        sums
    }
}

struct Activated<R, F>(R, F);

impl<R: Row, F: Fn(f32) -> f32> Row for Activated<R, F> {
    #[inline(always)]
    fn columns<const N: usize>(&self, first: usize) -> [f32; N] {
        let mut values = self.0.columns(first);
        for value in &mut values {
            *value = self.1(*value);
        }
        values
    }
}
