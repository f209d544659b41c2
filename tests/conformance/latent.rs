use noisefork::ops::{Blend, Combine, Inject};
use noisefork::rng::{BrownianNoise, CounterStream, Draw, Normals, Philox, Topology};
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

/// A combination with noise of every kind that has addresses.
#[derive(Debug, Clone)]
pub struct InjectCase {
    shape: [usize; 4],
    coefficients: Vec<f32>,
    noise: Injected,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Injected {
    Counter,
    /// On a GPU of so many blocks.
    Torch(u64),
    /// Between two levels, over either.
    Path(Option<u64>, f32, f32),
}

impl InjectCase {
    fn draws(&self) -> Vec<Draw> {
        let [items, ..] = self.shape;
        let item = self.shape[1..].iter().product::<usize>();
        let seeds = (0..items as u64).map(|k| self.seed.wrapping_add(k));
        match self.noise {
            Injected::Counter => {
                let draw = |(k, seed)| Draw::Normal(CounterStream::new(seed).draw(k, 9));
                (0..).zip(seeds).map(draw).collect()
            }
            Injected::Torch(blocks) => {
                let draw = |seed| {
                    let mut generator = Philox::new(seed, Topology::try_from(blocks).expect("blocks"));
                    generator.next_draw(item).expect("few values");
                    Draw::Normal(generator.next_draw(item).expect("few values"))
                };
                seeds.map(draw).collect()
            }
            Injected::Path(blocks, from, to) => {
                let normals = match blocks {
                    None => Normals::Counter,
                    Some(blocks) => Normals::TorchCuda(Topology::try_from(blocks).expect("blocks")),
                };
                let seeds: Vec<u64> = seeds.collect();
                let noise = BrownianNoise::with_normals(normals, &seeds, item, 0.03, 14.6).expect("levels");
                let paths = noise.as_data(from, to).expect("an interval").expect("values with addresses");
                paths.into_iter().map(Draw::Path).collect()
            }
        }
    }
}

impl Case for InjectCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let mut values = Values(self.seed);
        let term = |_: &f32| latent(backend, &values.tensor(self.shape, 1.0));
        let latents: Vec<B::Latent> = self.coefficients.iter().map(term).collect();
        let terms: Vec<(f32, &B::Latent)> = self.coefficients.iter().copied().zip(&latents).collect();
        let draws = self.draws();
        let op = Inject { terms: &terms, noise: (0.75, &draws) };
        let mut y = unwritten_latent(backend, self.shape.into());
        backend.inject(&op, &mut y).expect("a valid case");
        Readable::latent(backend, &y)
    }

    /// The terms' size, for they may cancel. Noise itself is the same to the bit.
    fn floor<S: Element>(&self, _: &[f64]) -> f64 {
        few_ulp(1.0 + self.coefficients.iter().map(|c| f64::from(c * c)).sum::<f64>().sqrt())
    }

    fn large() -> Vec<Self> {
        let many = (0..40).map(|k| (k as f32 - 17.0) / 8.0).collect();
        let case =
            |shape, noise| InjectCase { shape, coefficients: vec![0.7, -1.3], noise, seed: u64::MAX - 3 };
        vec![
            case([3, 4, 61, 67], Injected::Counter),
            case([18, 1, 9, 7], Injected::Counter),
            InjectCase { coefficients: many, ..case([2, 1, 8, 8], Injected::Torch(1)) },
            case([2, 4, 31, 29], Injected::Torch(2)),
            case([2, 4, 16, 16], Injected::Path(None, 14.6, 3.0)),
            case([1, 4, 9, 15], Injected::Path(Some(1), 0.5, 0.1)),
        ]
    }

    fn any() -> BoxedStrategy<Self> {
        let level = || (0.0..1.0f32).prop_map(|t| 0.03 + 14.57 * t);
        let noise = prop_oneof![
            Just(Injected::Counter),
            (1..9u64).prop_map(Injected::Torch),
            (prop::option::of(1..9u64), level(), level())
                .prop_filter("an interval", |(_, from, to)| (from - to).abs() > 1e-3)
                .prop_map(|(blocks, from, to)| Injected::Path(blocks, from, to)),
        ];
        let small = (1..4usize, 1..4usize, extent(&[8], 9), extent(&[8], 17));
        (small, prop::collection::vec(-20.0..20.0f32, 0..6), noise, any::<u64>())
            .prop_map(|((n, c, h, w), coefficients, noise, seed)| InjectCase {
                shape: [n, c, h, w],
                coefficients,
                noise,
                seed,
            })
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
