use super::Reference;
use super::real::{Real, offset};
use crate::ops::{Blend, Combine, Inject};
use crate::rng::fill_parts;
use crate::tensor::{Element, Shape, Shaped, Tensor};

pub(super) fn combine<F: Real, S: Element>(op: &Combine<'_, Reference<F, S>>, y: &mut [F]) {
    for (at, y) in y.iter_mut().enumerate() {
        *y = sum(op.terms, at);
    }
}

pub(super) fn inject<F: Real, S: Element>(op: &Inject<'_, Reference<F, S>>, y: &mut [F]) {
    let (strength, draws) = op.noise;
    let mut noise = vec![0.0; y.len()];
    fill_parts(draws, &mut noise);
    for (at, (y, z)) in y.iter_mut().zip(noise).enumerate() {
        *y = sum(op.terms, at);
        *y += F::from_f32(strength) * F::from_f32(z);
    }
}

fn sum<F: Real>(terms: &[(f32, &Tensor<F>)], at: usize) -> F {
    let mut sum = F::default();
    for &(coefficient, x) in terms {
        sum += F::from_f32(coefficient) * x.data()[at];
    }
    sum
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
