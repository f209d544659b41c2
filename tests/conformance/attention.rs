use noisefork::ops::Attention;
use noisefork::tensor::Tensor;
use proptest::prelude::*;

use crate::case::{Case, Readable, Values, extent, few_ulp, largest, unwritten, upload};

#[derive(Debug, Clone)]
pub struct AttentionCase {
    items: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    depth: usize,
    /// Of queries and keys each; at 50 the scores differ by far more than an exponential can hold.
    scale: f32,
    seed: u64,
}

impl AttentionCase {
    /// `q`, `k`, `v`.
    fn inputs(&self) -> [Tensor; 3] {
        let (mut values, c) = (Values(self.seed), self.heads * self.depth);
        let mut q = values.tensor([self.items, self.queries, c], self.scale);
        if self.queries.is_multiple_of(2) {
            // An image is a sequence too.
            q = q.reshaped([self.items, 2, self.queries / 2, c]).expect("as many elements");
        }
        let k = values.tensor([self.items, self.keys, c], self.scale);
        [q, k, values.tensor([self.items, self.keys, c], 1.0)]
    }
}

impl Case for AttentionCase {
    fn run<B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let [q, k, v] = self.inputs().map(|t| upload(backend, &t));
        let op = Attention { q: &q, k: &k, v: &v, heads: self.heads };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.attention(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }

    /// A score that is off by a few ulp of the largest shifts its weight, and so the mean of `v`, by as much.
    fn floor(&self, _: &[f64]) -> f64 {
        let [q, k, v] = self.inputs().map(|t| t.cast::<f64>());
        let norm = |t: &Tensor<f64>| {
            let rows = t.data().chunks(self.depth);
            rows.map(|row| row.iter().map(|x| x * x).sum::<f64>()).fold(0.0, f64::max).sqrt()
        };
        let score = norm(&q) * norm(&k) / (self.depth as f64).sqrt();
        few_ulp(largest(v.data()) * (1.0 + score))
    }

    fn large() -> Vec<Self> {
        let case = |queries, keys, scale| AttentionCase {
            items: 2,
            queries,
            keys,
            heads: 3,
            depth: 20,
            scale,
            seed: 1,
        };
        vec![case(131, 260, 1.0), case(70, 513, 50.0)]
    }

    fn any() -> BoxedStrategy<Self> {
        let extents = (1..3usize, extent(&[64], 80), extent(&[64, 256], 260), 1..4usize, extent(&[8], 20));
        (extents, prop::sample::select(vec![0.1, 1.0, 5.0, 50.0]), any::<u64>())
            .prop_map(|((items, queries, keys, heads, depth), scale, seed)| AttentionCase {
                items,
                queries,
                keys,
                heads,
                depth,
                scale,
                seed,
            })
            .boxed()
    }
}
