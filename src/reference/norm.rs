use super::Reference;
use super::real::{Real, activate, load, store};
use crate::ops::{GroupNorm, LayerNorm};
use crate::tensor::{Element, Shaped};

pub(super) fn group_norm<F: Real, S: Element>(op: &GroupNorm<'_, Reference<F, S>>, y: &mut [S]) {
    let x = op.x.data();
    let channels = op.x.shape().channels();
    let item = x.len() / op.x.shape()[0];
    let per_group = channels / op.groups;
    for first in (0..x.len()).step_by(item) {
        for group in 0..op.groups {
            // Every element of this item whose channel is in this group.
            let members = || (first..first + item).filter(|at| at % channels / per_group == group);
            let (mean, deviation) = moments(members().map(|at| load(x[at])), F::from_f32(op.eps));
            for at in members() {
                let (gamma, beta): (F, F) =
                    (load(op.gamma.data()[at % channels]), load(op.beta.data()[at % channels]));
                y[at] =
                    store(activate((load::<F, S>(x[at]) - mean) / deviation * gamma + beta, op.activation));
            }
        }
    }
}

pub(super) fn layer_norm<F: Real, S: Element>(op: &LayerNorm<'_, Reference<F, S>>, y: &mut [S]) {
    let channels = op.x.shape().channels();
    for (x, y) in op.x.data().chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
        let (mean, deviation) = moments::<F>(x.iter().map(|&x| load(x)), F::from_f32(op.eps));
        for c in 0..channels {
            let (gamma, beta): (F, F) = (load(op.gamma.data()[c]), load(op.beta.data()[c]));
            y[c] = store((load::<F, S>(x[c]) - mean) / deviation * gamma + beta);
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
