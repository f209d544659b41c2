use super::Reference;
use super::real::{Real, dot, load, offset, store};
use crate::ops::{Attention, Columns};
use crate::tensor::{Element, Shaped};

pub(super) fn attention<F: Real, S: Element>(op: &Attention<'_, Reference<F, S>>, y: &mut [S]) {
    let items = op.q.tensor.shape()[0];
    let [queries, keys] = [&op.q, &op.k].map(|of| of.tensor.shape().rows() / items);
    let depth = op.channels / op.heads;
    let root = F::from_f64(depth as f64).sqrt();
    for n in 0..items {
        for h in 0..op.heads {
            for t in 0..queries {
                let q = head(&op.q, n * queries + t, h, depth);
                let key = |s| head(&op.k, n * keys + s, h, depth);
                let scores = (0..keys).map(|s| dot(F::default(), q, key(s)) / root);
                // Operands of the second product, so stored like those of the first.
                let weights: Vec<S> = softmax(scores.collect()).into_iter().map(store).collect();
                for d in 0..depth {
                    let mut sum = F::default();
                    for (s, &weight) in weights.iter().enumerate() {
                        sum += load::<F, S>(weight) * load(head(&op.v, n * keys + s, h, depth)[d]);
                    }
                    y[offset([items, queries, op.heads, depth], [n, t, h, d])] = store(sum);
                }
            }
        }
    }
}

/// The `depth` values of head `h` in a row.
fn head<'a, F: Real, S: Element>(
    columns: &Columns<'a, Reference<F, S>>,
    row: usize,
    h: usize,
    depth: usize,
) -> &'a [S] {
    let width = columns.tensor.shape().channels();
    &columns.tensor.data()[row * width + columns.first + h * depth..][..depth]
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
