//! A product whose rows are those of `x`. For GEGLU a thread has the sums of values and of their gates side by side.

use std::ops::Range;

use super::epilogue::{Addend, Epilogue};
use super::math::gelu;
use super::product::{self, Finish, Finished, Places, Rows};
use super::write::write_rows;
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
        let biases = [bias.map(|(values, _)| values), bias.map(|(_, gates)| gates)];
        product::product(op.weight, &rows, y.data_mut(), width, [0, width], &Geglu { biases }, room);
        return;
    }
    let epilogue = Epilogue {
        bias: op.bias.map(PooledTensor::data),
        shift: None,
        residual: op.residual.map(|residual| Addend::rows(residual.data(), width)),
        activation: op.activation,
    };
    product::product(op.weight, &rows, y.data_mut(), width, [0], &epilogue, room);
}

/// Multiplies values with their activated gates.
struct Geglu<'a, E> {
    /// Of values, and of gates.
    biases: [Option<&'a [E]>; 2],
}

impl<E: Compute> Finish<E, 2> for Geglu<'_, E> {
    fn biases(&self) -> [Option<&[E]>; 2] {
        self.biases
    }
    #[inline(always)]
    fn rows<'a>(
        &'a self,
        rows: usize,
        row: impl Fn(usize) -> Option<Finished<'a, E, 2>>,
        _: &Range<usize>,
        [of_values, of_gates]: [&'a [f32]; 2],
    ) {
        write_rows(
            rows,
            #[inline(always)]
            |i| row(i).map(|(_, [values, gates], y)| (y, [values, of_values, gates, of_gates], [])),
            #[inline(always)]
            |[value, of_value, gate, of_gate], []| (value + of_value) * gelu::<E>(gate + of_gate),
        );
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
