use super::Reference;
use super::real::{Real, activate, dot, gelu, load, store};
use crate::ops::{Activation, Linear};
use crate::tensor::{Element, Shaped};

pub(super) fn linear<F: Real, S: Element>(op: &Linear<'_, Reference<F, S>>, y: &mut [S]) {
    let [outputs, inputs] = [op.weight.shape()[0], op.weight.shape()[1]];
    for row in 0..op.x.shape().rows() {
        let x = &op.x.data()[row * inputs..][..inputs];
        let before_activation = |m: usize| {
            let mut sum: F = dot(F::default(), x, &op.weight.data()[m * inputs..][..inputs]);
            sum += op.bias.map_or(F::default(), |bias| load(bias.data()[m]));
            sum += op.residual.map_or(F::default(), |residual| load(residual.data()[row * outputs + m]));
            sum
        };
        if op.activation == Activation::Geglu {
            let half = outputs / 2;
            for m in 0..half {
                y[row * half + m] = store(before_activation(m) * gelu(before_activation(half + m)));
            }
        } else {
            for m in 0..outputs {
                y[row * outputs + m] = store(activate(before_activation(m), op.activation));
            }
        }
    }
}
