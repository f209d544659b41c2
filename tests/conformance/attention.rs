use noisefork::ops::{Attention, Columns};
use noisefork::tensor::{Element, Tensor};
use proptest::prelude::*;

use crate::case::{Case, Mapped, Readable, Values, extent, few_ulp, half_ulp, largest, unwritten, upload};

#[derive(Debug, Clone)]
pub struct AttentionCase {
    items: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    depth: usize,
    /// Whether queries, keys and values are columns of tensors that have others beside them.
    joined: bool,
    /// How many others: so many times a few.
    beside: usize,
    /// Of queries and keys each; at 50 the scores differ by far more than an exponential can hold.
    scale: f32,
    seed: u64,
}

impl AttentionCase {
    /// The first columns of `q`, `k` and `v`, and how many columns their tensors have.
    fn columns(&self) -> [(usize, usize); 3] {
        let (channels, n) = (self.heads * self.depth, self.beside);
        if self.joined {
            [(n, channels + 3 * n), (channels, 2 * channels), (5 * n, channels + 5 * n)]
        } else {
            [(0, channels); 3]
        }
    }

    /// `q`, `k`, `v`.
    fn inputs(&self) -> [Tensor; 3] {
        let mut values = Values(self.seed);
        let [(_, q), (_, k), (_, v)] = self.columns();
        // An image is a sequence too.
        let height = if self.queries.is_multiple_of(2) { 2 } else { 1 };
        [
            values.tensor([self.items, height, self.queries / height, q], self.scale),
            values.tensor([self.items, self.keys, k], self.scale),
            values.tensor([self.items, self.keys, v], 1.0),
        ]
    }
}

impl Case for AttentionCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let inputs = self.inputs().map(|t| upload::<S, _>(backend, &t));
        let columns = self.columns().map(|(first, _)| first);
        let [q, k, v] = std::array::from_fn(|i| Columns { tensor: &inputs[i], first: columns[i] });
        let (heads, channels) = (self.heads, self.heads * self.depth);
        let op = Attention { q, k, v, channels, heads };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.attention(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }

    /// A score that is off by a few ulp of the largest shifts its weight, and so the mean of `v`, by as much. And where
    /// weights are rounded to `S`, by luck the rival may not show it; over all keys, that is about a root of them.
    fn floor<S: Element>(&self, oracle: &[f64]) -> f64 {
        let ([q, k, v], columns) = (self.inputs().map(|t| t.cast::<f64>()), self.columns());
        let norm = |t: &Tensor<f64>, (first, width): (usize, usize)| {
            let rows = t.data().chunks(width).map(|row| &row[first..][..self.heads * self.depth]);
            let heads = rows.flat_map(|row| row.chunks(self.depth));
            heads.map(|head| head.iter().map(|x| x * x).sum::<f64>()).fold(0.0, f64::max).sqrt()
        };
        let score = norm(&q, columns[0]) * norm(&k, columns[1]) / (self.depth as f64).sqrt();
        few_ulp(largest(v.data()) * (1.0 + score))
            + half_ulp::<S>(largest(oracle) + largest(v.data()) / (self.keys as f64).sqrt())
    }

    fn large() -> Vec<Self> {
        let case = |queries, keys, depth, joined, scale| AttentionCase {
            items: 2,
            queries,
            keys,
            heads: 3,
            depth,
            joined,
            beside: 1,
            scale,
            seed: 1,
        };
        vec![case(131, 260, 20, false, 1.0), case(70, 513, 20, true, 50.0), case(70, 77, 136, true, 1.0)]
    }

    fn any() -> BoxedStrategy<Self> {
        // Those of Stable Diffusion, and any.
        let depth =
            prop_oneof![1 => prop::sample::select(vec![40, 64, 80, 160]), 2 => extent(&[8, 32, 128], 160)];
        let extents = (1..3usize, extent(&[64], 80), extent(&[64, 256], 260), 1..4usize, depth);
        let scale = prop::sample::select(vec![0.1, 1.0, 5.0, 50.0]);
        (extents, any::<bool>(), scale, any::<u64>())
            .prop_map(|((items, queries, keys, heads, depth), joined, scale, seed)| AttentionCase {
                items,
                queries,
                keys,
                heads,
                depth,
                joined,
                beside: 1,
                scale,
                seed,
            })
            .boxed()
    }
}

/// Heads, and with others beside them rows, of whole 16 bytes.
impl Mapped for AttentionCase {
    fn mapped(self) -> Self {
        AttentionCase { depth: self.depth.next_multiple_of(8), beside: 8, ..self }
    }
}
