//! Rows whose values are each a function of what other rows have in the same place.

use super::Compute;
use super::math::activate;
use crate::ops::Activation;
use crate::simd::bf16::LANES;

/// Writes to `y` what `f` makes of the values of some rows in f32, and of others that are widened first.
#[inline(always)]
pub(super) fn write<E: Compute, const WIDE: usize, const NARROW: usize>(
    y: &mut [E],
    wide: [&[f32]; WIDE],
    narrow: [&[E]; NARROW],
    f: impl Fn([f32; WIDE], [f32; NARROW]) -> f32,
) {
    let wide = cut(wide, y.len());
    let narrow = cut(narrow, y.len());
    let (whole, rest) = y.as_chunks_mut::<LANES>();
    for (i, y) in whole.iter_mut().enumerate() {
        let mut values = [0.0; LANES];
        for (lane, value) in values.iter_mut().enumerate() {
            *value = f(wide.whole(i, lane), narrow.whole(i, lane));
        }
        E::narrow_all(values, y);
    }
    for (i, y) in rest.iter_mut().enumerate() {
        *y = E::narrow(f(wide.rest(i), narrow.rest(i)));
    }
}

/// A row to write, and the rows that it is made of.
pub(super) type Row<'a, E, const WIDE: usize, const NARROW: usize> =
    (&'a mut [E], [&'a [f32]; WIDE], [&'a [E]; NARROW]);

/// Writes so many rows, but for those that `row` has not, with an elementwise activation after `f`.
#[inline(always)]
pub(super) fn write_activated<'a, E: Compute, const WIDE: usize, const NARROW: usize>(
    rows: usize,
    row: impl FnMut(usize) -> Option<Row<'a, E, WIDE, NARROW>>,
    activation: Activation,
    f: impl Fn([f32; WIDE], [f32; NARROW]) -> f32,
) {
    // Loops for each: a choice within one keeps it from vectorising.
    match activation {
        Activation::Silu => write_rows(
            rows,
            row,
            #[inline(always)]
            |wide, narrow| activate::<E>(f(wide, narrow), Activation::Silu),
        ),
        Activation::Relu => write_rows(
            rows,
            row,
            #[inline(always)]
            |wide, narrow| activate::<E>(f(wide, narrow), Activation::Relu),
        ),
        Activation::Identity | Activation::Geglu => write_rows(rows, row, f),
    }
}

/// The same without.
#[inline(always)]
pub(super) fn write_rows<'a, E: Compute, const WIDE: usize, const NARROW: usize>(
    rows: usize,
    mut row: impl FnMut(usize) -> Option<Row<'a, E, WIDE, NARROW>>,
    f: impl Fn([f32; WIDE], [f32; NARROW]) -> f32,
) {
    for i in 0..rows {
        if let Some((y, wide, narrow)) = row(i) {
            write(y, wide, narrow, &f);
        }
    }
}

/// Rows in arrays, and what is left of them.
struct Cut<'a, E, const N: usize> {
    whole: [&'a [[E; LANES]]; N],
    rest: [&'a [E]; N],
}

#[inline(always)]
fn cut<E, const N: usize>(rows: [&[E]; N], len: usize) -> Cut<'_, E, N> {
    let mut cut = Cut { whole: [&[]; N], rest: [&[]; N] };
    for ((whole, rest), row) in cut.whole.iter_mut().zip(&mut cut.rest).zip(rows) {
        (*whole, *rest) = row[..len].as_chunks();
    }
    cut
}

impl<E: Compute, const N: usize> Cut<'_, E, N> {
    #[inline(always)]
    fn whole(&self, i: usize, lane: usize) -> [f32; N] {
        let mut values = [0.0; N];
        for (value, row) in values.iter_mut().zip(self.whole) {
            *value = row[i][lane].widen();
        }
        values
    }

    #[inline(always)]
    fn rest(&self, i: usize) -> [f32; N] {
        let mut values = [0.0; N];
        for (value, row) in values.iter_mut().zip(self.rest) {
            *value = row[i].widen();
        }
        values
    }
}
