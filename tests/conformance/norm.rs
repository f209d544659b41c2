use noisefork::ops::{Activation, GroupNorm, LayerNorm};
use noisefork::tensor::{Element, Tensor};
use proptest::prelude::*;

use crate::case::{Case, Readable, Values, elementwise, extent, few_ulp, largest, unwritten, upload};

/// The values' scale, and how many times that their mean lies from 0.
type Spread = (f32, f32);

fn spread() -> impl Strategy<Value = Spread> {
    (prop::sample::select(vec![1e-2, 1.0, 50.0]), prop::sample::select(vec![0.0, 1.0, -1e3, 1e3]))
}

/// `x`, `gamma`, `beta`; the mean nearer to 0 if it lies past what `S` can hold.
fn inputs<S: Element>(seed: u64, shape: [usize; 4], (scale, mean): Spread) -> [Tensor; 3] {
    let mean = if S::from_f32(scale * mean).to_f32().is_finite() { mean } else { mean / 100.0 };
    let mut values = Values(seed);
    let mut x = values.tensor(shape, scale);
    x.data_mut().iter_mut().for_each(|x| *x += scale * mean);
    [x, values.tensor([shape[3]], 2.0), values.tensor([shape[3]], 1.0)]
}

/// A few roundings of what is scaled and of what is added, neither of which exceeds this.
fn floor(oracle: &[f64], beta: &Tensor) -> f64 {
    few_ulp(largest(oracle) + largest(beta.cast().data()))
}

#[derive(Debug, Clone)]
pub struct GroupNormCase {
    x: [usize; 4],
    groups: usize,
    activation: Activation,
    spread: Spread,
    seed: u64,
}

impl Case for GroupNormCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let [x, gamma, beta] =
            inputs::<S>(self.seed, self.x, self.spread).map(|t| upload::<S, _>(backend, &t));
        let (groups, activation) = (self.groups, self.activation);
        let op = GroupNorm { x: &x, gamma: &gamma, beta: &beta, groups, eps: 1e-5, activation };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.group_norm(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }

    fn floor<S: Element>(&self, oracle: &[f64]) -> f64 {
        floor(oracle, &inputs::<S>(self.seed, self.x, self.spread)[2])
    }

    fn large() -> Vec<Self> {
        let case = |x, spread| GroupNormCase { x, groups: 3, activation: Activation::Silu, spread, seed: 1 };
        vec![
            case([3, 19, 41, 33], (1.0, 0.0)),
            case([2, 65, 32, 24], (1.0, 1e3)),
            case([1, 64, 64, 18], (10.0, 1e5)),
        ]
    }

    fn any() -> BoxedStrategy<Self> {
        let extents = (1..4usize, extent(&[8], 17), extent(&[8], 17), 1..5usize, extent(&[8], 10));
        (extents, elementwise(), spread(), any::<u64>())
            .prop_map(|((n, h, w, groups, per_group), activation, spread, seed)| GroupNormCase {
                x: [n, h, w, groups * per_group],
                groups,
                activation,
                spread,
                seed,
            })
            .boxed()
    }
}

#[derive(Debug, Clone)]
pub struct LayerNormCase {
    x: [usize; 4],
    spread: Spread,
    seed: u64,
}

impl Case for LayerNormCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let [x, gamma, beta] =
            inputs::<S>(self.seed, self.x, self.spread).map(|t| upload::<S, _>(backend, &t));
        let op = LayerNorm { x: &x, gamma: &gamma, beta: &beta, eps: 1e-5 };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.layer_norm(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }

    fn floor<S: Element>(&self, oracle: &[f64]) -> f64 {
        floor(oracle, &inputs::<S>(self.seed, self.x, self.spread)[2])
    }

    fn large() -> Vec<Self> {
        vec![LayerNormCase { x: [2, 1, 257, 321], spread: (1.0, 1.0), seed: 1 }]
    }

    fn any() -> BoxedStrategy<Self> {
        ((1..4usize, extent(&[64, 128], 140), extent(&[16, 64], 80)), spread(), any::<u64>())
            .prop_map(|((n, rows, c), spread, seed)| LayerNormCase { x: [n, 1, rows, c], spread, seed })
            .boxed()
    }
}
