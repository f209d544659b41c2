//! What a case is, and what is demanded of a backend that runs it.

use std::fmt::Debug;

use half::{bf16, f16};
use noisefork::cpu::Cpu;
use noisefork::ops::{Activation, Backend};
use noisefork::reference::Reference;
use noisefork::tensor::{Element, Shape, Shaped, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::judge::{Subject, judge};

/// A backend whose tensors can be looked at.
pub trait Readable: Backend {
    fn tensor(&self, tensor: &Self::Tensor) -> Tensor<f64>;
    fn latent(&self, latent: &Self::Latent) -> Tensor<f64>;
}

macro_rules! readable_on_the_host {
    ($backend:ty) => {
        impl Readable for $backend {
            fn tensor(&self, tensor: &Self::Tensor) -> Tensor<f64> {
                tensor.cast()
            }
            fn latent(&self, latent: &Self::Latent) -> Tensor<f64> {
                latent.cast()
            }
        }
    };
}
readable_on_the_host!(Cpu);
readable_on_the_host!(Cpu<bf16>);
readable_on_the_host!(Reference<f32>);
readable_on_the_host!(Reference<f32, bf16>);
readable_on_the_host!(Reference<f32, f16>);
readable_on_the_host!(Reference<f64>);

/// A backend that is held to the oracle.
pub trait Tested: Readable {
    /// What it keeps a network's tensors in; inputs are rounded to that before anyone sees them.
    type Storage: Element;
    /// Plain code in the same precision.
    type Rival: Readable + Default;
}

impl Tested for Cpu {
    type Storage = f32;
    type Rival = Reference<f32>;
}

impl Tested for Cpu<bf16> {
    type Storage = bf16;
    type Rival = Reference<f32, bf16>;
}

/// One operation on inputs that follow from what the case holds.
pub trait Case: Debug + Clone + Sync {
    /// Computes it from inputs that `S` can hold. The output starts as NaN, so what is left unwritten shows.
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64>;

    /// What the largest error may exceed twice the rival's by, given the right values, which are stored in `S`.
    fn floor<S: Element>(&self, oracle: &[f64]) -> f64;

    /// Cases with enough work that a backend shares it among threads.
    fn large() -> Vec<Self>;

    /// Random cases.
    fn any() -> BoxedStrategy<Self>;
}

/// A case of `C`, changed so that a tensor map can show its input: what kernels for Hopper compute.
#[derive(Debug, Clone)]
pub struct OnHopper<C>(C);

pub trait Mapped: Case {
    /// The nearest such case.
    fn mapped(self) -> Self;
}

impl<C: Mapped + 'static> Case for OnHopper<C> {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        self.0.run::<S, B>(backend)
    }
    fn floor<S: Element>(&self, oracle: &[f64]) -> f64 {
        self.0.floor::<S>(oracle)
    }
    fn large() -> Vec<Self> {
        C::large().into_iter().map(|case| OnHopper(case.mapped())).collect()
    }
    fn any() -> BoxedStrategy<Self> {
        C::any().prop_map(|case| OnHopper(case.mapped())).boxed()
    }
}

/// Channels that a tensor map can show, and that are worth it: a few of them more than a multiple of 64, or many.
pub fn mapped(channels: usize) -> usize {
    channels.next_multiple_of(8).max(32)
}

/// A few roundings of a number as large as `scale`.
pub fn few_ulp(scale: f64) -> f64 {
    4.0 * f64::from(f32::EPSILON) * scale
}

/// Half a unit in the last place of `S`, where `scale` ends a power of two.
pub fn half_ulp<S: Element>(scale: f64) -> f64 {
    let tells = |step: &f64| S::from_f64(1.0 + step).to_f64() > 1.0;
    let steps = (0..).map(|n| 0.5_f64.powi(n)).take_while(tells);
    steps.last().map_or(0.0, |ulp| scale * ulp / 4.0)
}

/// The largest magnitude.
pub fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Runs a case on `backend`, the oracle and its rival, and compares.
pub fn conforms<B: Tested, C: Case>(backend: &B, case: &C) -> Result<(), String> {
    let got = case.run::<B::Storage, _>(backend);
    let oracle = case.run::<B::Storage, _>(&Reference::<f64>::new());
    let rival = case.run::<B::Storage, _>(&B::Rival::default());
    let subject = Subject { case, shape: &oracle.shape() };
    judge(subject, got.data(), oracle.data(), rival.data(), case.floor::<B::Storage>(oracle.data()))
}

/// Holds `backend` to the oracle on the large cases and on `cases` random ones, the same in every run unless
/// `PROPTEST_RNG_SEED` says otherwise.
pub fn check<B: Tested, C: Case>(backend: &B, cases: u32) {
    for case in C::large() {
        conforms(backend, &case).unwrap_or_else(|difference| panic!("{difference}"));
    }
    let mut config = Config { cases, failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    let outcome =
        TestRunner::new(config).run(&C::any(), |case| conforms(backend, &case).map_err(TestCaseError::fail));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Holds `backend` to the same bits in every run and at any number of threads.
pub fn check_bits<B: Tested, C: Case>(backend: &B) {
    for case in C::large() {
        let bits = |threads: usize| -> Vec<u64> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| case.run::<B::Storage, _>(backend))
                .data()
                .iter()
                .map(|value| value.to_bits())
                .collect()
        };
        let expected = bits(1);
        for threads in [1, 2, 3, 7] {
            assert!(bits(threads) == expected, "{case:?}: other bits with {threads} threads");
        }
    }
}

/// Holds a backend to the same bits whatever the seed of the emulator's schedule.
pub fn check_schedules<B: Tested, C: Case>(backend: impl Fn(u64) -> B) {
    for case in C::large() {
        let expected = case.run::<B::Storage, _>(&backend(1));
        for seed in 2..6 {
            let got = case.run::<B::Storage, _>(&backend(seed));
            assert!(got == expected, "{case:?}: other bits under schedule {seed}");
        }
    }
}

/// Pseudo-random tensors (SplitMix64), one in eight values 0.
pub struct Values(pub u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[-scale, scale)`.
    pub fn tensor(&mut self, shape: impl Into<Shape>, scale: f32) -> Tensor {
        let shape = shape.into();
        let mut value = || match self.next() {
            bits if bits % 8 == 0 => 0.0,
            bits => ((bits >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale,
        };
        let data = (0..shape.elements()).map(|_| value()).collect();
        Tensor::new(shape, data).expect("as many values as the shape has")
    }

    /// The same, if it is wanted.
    pub fn optional(&mut self, wanted: bool, shape: impl Into<Shape>) -> Option<Tensor> {
        wanted.then(|| self.tensor(shape, 1.0))
    }
}

/// Each value squared.
pub fn squared(tensor: &Tensor) -> Tensor {
    let mut tensor = tensor.clone();
    tensor.data_mut().iter_mut().for_each(|value| *value *= *value);
    tensor
}

/// An output that nothing has been written to.
pub fn unwritten<B: Backend>(backend: &B, shape: Shape) -> B::Tensor {
    upload::<f32, _>(backend, &nan(shape))
}

/// A latent that nothing has been written to.
pub fn unwritten_latent<B: Backend>(backend: &B, shape: Shape) -> B::Latent {
    latent(backend, &nan(shape))
}

fn nan(shape: Shape) -> Tensor {
    Tensor::new(shape, vec![f32::NAN; shape.elements()]).expect("as many values as the shape has")
}

/// A tensor of values that `S` can hold.
pub fn upload<S: Element, B: Backend>(backend: &B, host: &Tensor) -> B::Tensor {
    backend.upload(&host.cast::<S>().cast()).expect("memory")
}

pub fn upload_optional<S: Element, B: Backend>(backend: &B, host: &Option<Tensor>) -> Option<B::Tensor> {
    host.as_ref().map(|host| upload::<S, B>(backend, host))
}

/// A weight of values that `S` can hold.
pub fn pack<S: Element, B: Backend>(backend: &B, host: &Tensor) -> B::Weight {
    backend.pack(host.cast::<S>().cast()).expect("a layer's weight")
}

pub fn latent<B: Backend>(backend: &B, host: &Tensor) -> B::Latent {
    let mut latent = backend.latent(host.shape()).expect("memory");
    backend.write_latent(host, &mut latent).expect("the shape that it was made with");
    latent
}

/// Extents at which blocks and tiles end: 1, primes, and each of `tiles` with its neighbours.
pub fn extent(tiles: &[usize], most: usize) -> BoxedStrategy<usize> {
    let edges = tiles.iter().flat_map(|tile| [tile - 1, *tile, tile + 1]);
    let edges: Vec<usize> =
        [1, 2, 3, 5, 7, 13, 17, 31].into_iter().chain(edges).filter(|&e| e <= most).collect();
    prop_oneof![prop::sample::select(edges), 1..=most].boxed()
}

/// The same, or now and then nothing.
pub fn extent_or_none(tiles: &[usize], most: usize) -> impl Strategy<Value = usize> + use<> {
    prop_oneof![1 => Just(0), 15 => extent(tiles, most)]
}

/// Any activation that works on one value.
pub fn elementwise() -> impl Strategy<Value = Activation> {
    prop::sample::select(vec![Activation::Identity, Activation::Relu, Activation::Silu])
}
