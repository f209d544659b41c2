use super::Reference;
use super::real::{Real, load, offset, store};
use crate::ops::{Concat, Enter, Leave, Rows};
use crate::tensor::{Element, Shape, Shaped};

pub(super) fn concat<F: Real, S: Element>(op: &Concat<'_, Reference<F, S>>, shape: Shape, y: &mut [S]) {
    let (a, b) = (op.a.shape().channels(), op.b.shape().channels());
    for row in 0..shape.rows() {
        for c in 0..a + b {
            let value = if c < a { op.a.data()[row * a + c] } else { op.b.data()[row * b + c - a] };
            y[row * (a + b) + c] = value;
        }
    }
}

pub(super) fn rows<F: Real, S: Element>(op: &Rows<'_, Reference<F, S>>, shape: Shape, y: &mut [S]) {
    for n in 0..shape.rows() {
        for c in 0..shape.channels() {
            y[n * shape.channels() + c] = op.table.data()[op.of_item(n) * shape.channels() + c];
        }
    }
}

pub(super) fn enter<F: Real, S: Element>(op: &Enter<'_, Reference<F, S>>, shape: Shape, y: &mut [S]) {
    let [items, height, width, channels] = [shape[0], shape[1], shape[2], shape[3]];
    let mut before = 0;
    for &(scale, part) in op.parts {
        let [batch, part_channels] = [part.shape()[0], part.shape()[1]];
        for n in 0..items {
            for c in 0..part_channels {
                for i in 0..height {
                    for j in 0..width {
                        let to = offset([items, height, width, channels], [n, i, j, before + c]);
                        let from = offset([batch, part_channels, height, width], [n % batch, c, i, j]);
                        y[to] = store(F::from_f32(scale) * part.data()[from]);
                    }
                }
            }
        }
        before += part_channels;
    }
}

pub(super) fn leave<F: Real, S: Element>(op: &Leave<'_, Reference<F, S>>, shape: Shape, y: &mut [F]) {
    let [items, channels, height, width] = [shape[0], shape[1], shape[2], shape[3]];
    for n in 0..items {
        for c in 0..channels {
            for i in 0..height {
                for j in 0..width {
                    let from = [op.branch * items + n, i, j, c];
                    let from = offset([op.branches * items, height, width, channels], from);
                    y[offset([items, channels, height, width], [n, c, i, j])] = load(op.x.data()[from]);
                }
            }
        }
    }
}
