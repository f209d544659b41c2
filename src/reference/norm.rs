use super::Reference;
use super::real::{Real, activate};
use crate::ops::{GroupNorm, LayerNorm};
use crate::tensor::Shaped;

pub(super) fn group_norm<F: Real>(op: &GroupNorm<'_, Reference<F>>, y: &mut [F]) {
    let x = op.x.data();
    let channels = op.x.shape().channels();
    let item = x.len() / op.x.shape()[0];
    let per_group = channels / op.groups;
    for first in (0..x.len()).step_by(item) {
        for group in 0..op.groups {
            // Every element of this item whose channel is in this group.
            let members = || (first..first + item).filter(|at| at % channels / per_group == group);
            let (mean, deviation) = moments(members().map(|at| x[at]), F::from_f32(op.eps));
            for at in members() {
                let (gamma, beta) = (op.gamma.data()[at % channels], op.beta.data()[at % channels]);
                y[at] = activate((x[at] - mean) / deviation * gamma + beta, op.activation);
            }
        }
    }
}

pub(super) fn layer_norm<F: Real>(op: &LayerNorm<'_, Reference<F>>, y: &mut [F]) {
    let channels = op.x.shape().channels();
    for (x, y) in op.x.data().chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
        let (mean, deviation) = moments(x.iter().copied(), F::from_f32(op.eps));
        for c in 0..channels {
            y[c] = (x[c] - mean) / deviation * op.gamma.data()[c] + op.beta.data()[c];
        }
    }
}

/// The mean, and `sqrt(variance + eps)` with the biased variance, in two passes.
fn moments<F: Real>(x: impl Iterator<Item = F> + Clone, eps: F) -> (F, F) {
    let average = |values: &mut dyn Iterator<Item = F>| {
        let (mut sum, mut count) = (F::default(), F::default());
        for value in values {
            sum += value;
            count += F::from_f32(1.0);
        }
        sum / count
    };
    let mean = average(&mut x.clone());
    let variance = average(&mut x.map(|x| (x - mean) * (x - mean)));
    (mean, (variance + eps).sqrt())
}
