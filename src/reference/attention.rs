use super::Reference;
use super::real::{Real, dot, offset};
use crate::ops::Attention;
use crate::tensor::Shaped;

pub(super) fn attention<F: Real>(op: &Attention<'_, Reference<F>>, y: &mut [F]) {
    let (items, channels) = (op.q.shape()[0], op.q.shape().channels());
    let (queries, keys) = (op.q.shape().rows() / items, op.k.shape().rows() / items);
    let depth = channels / op.heads;
    let root = F::from_f64(depth as f64).sqrt();
    for n in 0..items {
        for h in 0..op.heads {
            for t in 0..queries {
                let query = offset([items, queries, channels], [n, t, h * depth]);
                let key = |s| offset([items, keys, channels], [n, s, h * depth]);
                let q = &op.q.data()[query..][..depth];
                let scores = (0..keys).map(|s| dot(F::default(), q, &op.k.data()[key(s)..][..depth]) / root);
                let weights = softmax(scores.collect());
                for d in 0..depth {
                    let mut sum = F::default();
                    for (s, &weight) in weights.iter().enumerate() {
                        sum += weight * op.v.data()[key(s) + d];
                    }
                    y[query + d] = sum;
                }
            }
        }
    }
}

/// `exp(score_s) / sum exp(score_s)`, with the largest score taken off first so that nothing overflows.
fn softmax<F: Real>(mut scores: Vec<F>) -> Vec<F> {
    let largest = scores.iter().copied().reduce(|a, b| if b > a { b } else { a }).unwrap_or_default();
    let mut sum = F::default();
    for score in &mut scores {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in &mut scores {
        *score = *score / sum;
    }
    scores
}
