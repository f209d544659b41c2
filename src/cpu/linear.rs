//! A product whose rows are those of `x`. For GEGLU a thread has the sums of values and of their gates side by side.

use std::ops::Range;

use super::epilogue::{Addend, Epilogue};
use super::math::gelu;
use super::product::{Rows, product};
use super::{Compute, Cpu};
use crate::ops::{Activation, Linear};
use crate::pool::PooledTensor;
use crate::tensor::Shaped;

pub(super) fn linear<E: Compute>(op: &Linear<'_, Cpu<E>>, y: &mut PooledTensor<E>) {
    let width = y.shape().channels();
    let rows = Dense { x: op.x.data(), inputs: op.x.shape().channels() };
    if op.activation == Activation::Geglu {
        product(op.weight, &rows, y.data_mut(), width, [0, width], geglu(op, width));
        return;
    }
    let bias = op.bias.map(|bias| Addend::row(bias.data()));
    let residual = op.residual.map(|residual| Addend::rows(residual.data(), width));
    let epilogue = Epilogue { addends: [bias, residual, None], activation: op.activation };
    product(
        op.weight,
        &rows,
        y.data_mut(),
        width,
        [0],
        #[inline(always)]
        |row, columns, [sums], y| epilogue.finish(row, columns, sums, y),
    );
}

/// Multiplies values with their activated gates.
fn geglu<'a, E: Compute>(
    op: &'a Linear<'_, Cpu<E>>,
    width: usize,
) -> impl Fn(usize, Range<usize>, [&mut [f32]; 2], &mut [E]) + Sync + 'a {
    #[inline(always)]
    move |_, columns, [values, gates], y| {
        let Some(bias) = op.bias else {
            for ((y, value), gate) in y.iter_mut().zip(values).zip(gates) {
                *y = E::narrow(*value * gelu(*gate));
            }
            return;
        };
        let (of_values, of_gates) = bias.data().split_at(width);
        let values = values.iter().zip(&of_values[columns.clone()]);
        let gates = gates.iter().zip(&of_gates[columns]);
        for ((y, (value, of_value)), (gate, of_gate)) in y.iter_mut().zip(values).zip(gates) {
            *y = E::narrow((*value + of_value.widen()) * gelu(*gate + of_gate.widen()));
        }
    }
}

/// The rows of a matrix.
struct Dense<'a, E> {
    x: &'a [E],
    inputs: usize,
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
