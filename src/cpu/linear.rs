//! A product whose rows are those of `x`. For GEGLU a thread has the sums of values and of their gates side by side.

use std::ops::Range;

use super::epilogue::{Addend, Epilogue, Row, Sums, write};
use super::math::gelu;
use super::product::{self, Finish, Places, Rows};
use super::{Compute, Cpu};
use crate::error::Result;
use crate::ops::{Activation, Linear};
use crate::pool::{HostMemory, Pool, PooledTensor};
use crate::tensor::{Element, Shaped};

/// Room for a product of this form.
pub(super) fn room<E: Compute>(
    op: &Linear<'_, Cpu<E>>,
    pool: &Pool<HostMemory>,
) -> Result<Option<PooledTensor<E>>> {
    product::room(op.weight, &Dense::new(op.x), pool)
}

pub(super) fn linear<E: Compute>(
    op: &Linear<'_, Cpu<E>>,
    room: Option<&mut PooledTensor<E>>,
    y: &mut PooledTensor<E>,
) {
    let (rows, width) = (Dense::new(op.x), y.shape().channels());
    if op.activation == Activation::Geglu {
        let bias = op.bias.map(|bias| bias.data().split_at(width));
        product::product(op.weight, &rows, y.data_mut(), width, [0, width], &Geglu { bias }, room);
        return;
    }
    let bias = op.bias.map(|bias| Addend::row(bias.data()));
    let residual = op.residual.map(|residual| Addend::rows(residual.data(), width));
    let epilogue = Epilogue { addends: [bias, residual, None], activation: op.activation };
    product::product(op.weight, &rows, y.data_mut(), width, [0], &epilogue, room);
}

/// Multiplies values with their activated gates.
struct Geglu<'a, E> {
    /// Of values, and of gates.
    bias: Option<(&'a [E], &'a [E])>,
}

impl<E: Compute> Finish<E, 2> for Geglu<'_, E> {
    #[inline(always)]
    fn row(&self, _: usize, columns: Range<usize>, [values, gates]: [&[f32]; 2], y: &mut [E]) {
        let biases = self.bias.map(|(values, gates)| [&values[columns.clone()], &gates[columns]]);
        let [of_values, of_gates] = biases.unwrap_or_default();
        let addends = usize::from(self.bias.is_some());
        let values = Sums { sums: values, addends: &[of_values][..addends] };
        let gates = Sums { sums: gates, addends: &[of_gates][..addends] };
        write(y, &Gated { values, gates });
    }
}

/// GEGLU of a row.
struct Gated<'a, E> {
    values: Sums<'a, E>,
    gates: Sums<'a, E>,
}

impl<E: Compute> Row for Gated<'_, E> {
    #[inline(always)]
    fn columns<const N: usize>(&self, first: usize) -> [f32; N] {
        let (mut values, gates) = (self.values.columns(first), self.gates.columns::<N>(first));
        for (value, gate) in values.iter_mut().zip(gates) {
            *value *= gelu::<E>(gate);
        }
        values
    }
}

/// The rows of a matrix.
struct Dense<'a, E> {
    x: &'a [E],
    rows: usize,
    inputs: usize,
}

impl<'a, E: Element> Dense<'a, E> {
    fn new(x: &'a PooledTensor<E>) -> Self {
        let shape = x.shape();
        Dense { x: x.data(), rows: shape.rows(), inputs: shape.channels() }
    }
}

impl<E: Compute> Rows<E> for Dense<'_, E> {
    type Row = usize;

    #[inline(always)]
    fn row(&self, row: usize) -> usize {
        row
    }
    #[inline(always)]
    fn next(&self, row: usize) -> usize {
        row + 1
    }
    #[inline(always)]
    fn seen(&self, row: usize, _: usize) -> Option<&[E]> {
        Some(&self.x[row * self.inputs..][..self.inputs])
    }
}

impl<E: Compute> Places<E> for Dense<'_, E> {
    fn count(&self) -> usize {
        self.rows
    }
    fn line(&self) -> usize {
        self.rows
    }
    fn spacing(&self) -> usize {
        1
    }
    fn place(&self, row: usize, _: usize) -> usize {
        row
    }
    fn at(&self, place: usize) -> Option<&[E]> {
        self.seen(place, 0)
    }
    fn all(&self) -> Option<&[E]> {
        Some(self.x)
    }
}
