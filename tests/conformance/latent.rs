use noisefork::ops::{Blend, Combine};
use noisefork::tensor::{Element, Tensor};
use proptest::prelude::*;

use crate::case::{Case, Readable, Values, extent, few_ulp, latent, unwritten_latent};

fn shape() -> impl Strategy<Value = [usize; 4]> {
    (1..4usize, 1..6usize, extent(&[8], 20), extent(&[64], 70)).prop_map(|(n, c, h, w)| [n, c, h, w])
}

#[derive(Debug, Clone)]
pub struct CombineCase {
    shape: [usize; 4],
    coefficients: Vec<f32>,
    seed: u64,
}

impl Case for CombineCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let mut values = Values(self.seed);
        let term = |_: &f32| latent(backend, &values.tensor(self.shape, 1.0));
        let latents: Vec<B::Latent> = self.coefficients.iter().map(term).collect();
        let terms: Vec<(f32, &B::Latent)> = self.coefficients.iter().copied().zip(&latents).collect();
        let op = Combine { terms: &terms };
        let mut y = unwritten_latent(backend, op.check().expect("a valid case"));
        backend.combine(&op, &mut y).expect("a valid case");
        Readable::latent(backend, &y)
    }

    /// The terms' size, for they may cancel.
    fn floor<S: Element>(&self, _: &[f64]) -> f64 {
        few_ulp(self.coefficients.iter().map(|c| f64::from(c * c)).sum::<f64>().sqrt())
    }

    fn large() -> Vec<Self> {
        let many = (0..40).map(|k| (k as f32 - 17.0) / 8.0).collect();
        vec![
            CombineCase { shape: [3, 4, 61, 67], coefficients: vec![0.7, -1.3, 1.0, 14.6], seed: 1 },
            CombineCase { shape: [1, 4, 9, 31], coefficients: many, seed: 2 },
        ]
    }

    fn any() -> BoxedStrategy<Self> {
        (shape(), prop::collection::vec(-20.0..20.0f32, 1..6), any::<u64>())
            .prop_map(|(shape, coefficients, seed)| CombineCase { shape, coefficients, seed })
            .boxed()
    }
}

#[derive(Debug, Clone)]
pub struct BlendCase {
    shape: [usize; 4],
    one_item: bool,
    one_channel: bool,
    seed: u64,
}

impl Case for BlendCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let (mut values, [n, c, h, w]) = (Values(self.seed), self.shape);
        let [a, b] = [(), ()].map(|()| latent(backend, &values.tensor(self.shape, 1.0)));
        let mask = [if self.one_item { 1 } else { n }, if self.one_channel { 1 } else { c }, h, w];
        let mut mask = values.tensor(mask, 1.0);
        mask.data_mut().iter_mut().for_each(|mask| *mask = mask.abs());
        let mask = latent(backend, &mask);
        let op = Blend { a: &a, b: &b, mask: &mask };
        let mut y = unwritten_latent(backend, op.check().expect("a valid case"));
        backend.blend(&op, &mut y).expect("a valid case");
        Readable::latent(backend, &y)
    }

    /// Both sides are at most 1.
    fn floor<S: Element>(&self, _: &[f64]) -> f64 {
        few_ulp(1.0)
    }

    fn large() -> Vec<Self> {
        vec![BlendCase { shape: [3, 4, 81, 77], one_item: true, one_channel: false, seed: 1 }]
    }

    fn any() -> BoxedStrategy<Self> {
        (shape(), any::<(bool, bool, u64)>())
            .prop_map(|(shape, (one_item, one_channel, seed))| BlendCase {
                shape,
                one_item,
                one_channel,
                seed,
            })
            .boxed()
    }
}
