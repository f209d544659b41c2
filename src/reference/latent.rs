use super::Reference;
use super::real::{Real, offset};
use crate::ops::{Blend, Combine};
use crate::tensor::{Element, Shape, Shaped};

pub(super) fn combine<F: Real, S: Element>(op: &Combine<'_, Reference<F, S>>, y: &mut [F]) {
    for (at, y) in y.iter_mut().enumerate() {
        *y = F::default();
        for &(coefficient, x) in op.terms {
            *y += F::from_f32(coefficient) * x.data()[at];
        }
    }
}

pub(super) fn blend<F: Real, S: Element>(op: &Blend<'_, Reference<F, S>>, shape: Shape, y: &mut [F]) {
    let [items, channels, height, width] = [shape[0], shape[1], shape[2], shape[3]];
    let [mask_items, mask_channels] = [op.mask.shape()[0], op.mask.shape()[1]];
    for n in 0..items {
        for c in 0..channels {
            for i in 0..height {
                for j in 0..width {
                    let at = offset([items, channels, height, width], [n, c, i, j]);
                    let mask = [n % mask_items, c % mask_channels, i, j];
                    let mask = op.mask.data()[offset([mask_items, mask_channels, height, width], mask)];
                    y[at] = mask * op.a.data()[at] + (F::from_f32(1.0) - mask) * op.b.data()[at];
                }
            }
        }
    }
}
