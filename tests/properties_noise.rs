//! What noise owes its users whatever a reference says: the same bits on every machine and any number of threads, items
//! that can be drawn alone, and the laws of normal values and Brownian paths.

mod support;

use noisefork::error::Error;
use noisefork::rng::{BrownianNoise, BrownianTree, CounterStream, Mt19937, Normals, Philox, Topology};
use proptest::prelude::*;
use support::compare::assert_close;

/// FNV-1a over the bits of the values.
fn digest(values: &[f32]) -> u64 {
    values
        .iter()
        .flat_map(|v| v.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn randn_digest() -> u64 {
    let mut generator = Mt19937::new(0x1234_5678_9abc);
    let mut all = Vec::new();
    for elements in [4, 16, 17, 1000, 623, 624, 100_003, 7, 16_384] {
        let mut out = vec![0.0; elements];
        generator.randn(&mut out);
        all.extend(out);
    }
    digest(&all)
}

fn brownian_digest(elements: usize, seeds: &[u64]) -> u64 {
    let mut noise = BrownianNoise::batched(seeds, elements, 0.029, 14.6).unwrap();
    let mut all = Vec::new();
    for (sigma, sigma_next) in [(14.6, 11.0), (11.0, 7.5), (7.5, 7.4), (3.0, 1.0), (14.6, 11.0), (0.5, 0.0)] {
        let mut out = vec![0.0; seeds.len() * elements];
        noise.noise(sigma, sigma_next, &mut out).unwrap();
        all.extend(out);
    }
    digest(&all)
}

#[test]
fn bits_are_the_same_everywhere() {
    assert_eq!(randn_digest(), 12_915_530_858_072_252_509);
    let brownian = [
        (5, 1_653_280_728_499_972_873),
        (16, 14_364_738_092_139_940_665),
        (1000, 1_363_793_656_365_423_380),
        (16_384, 13_339_192_849_076_722_514),
        (40_007, 4_447_331_346_371_184_865),
    ];
    for (elements, digest) in brownian {
        assert_eq!(brownian_digest(elements, &[3, 1 << 40]), digest, "{elements} elements");
    }
}

/// A GPU small enough for tests to fill several times over.
fn small_gpu() -> Topology {
    Topology::new(3, 600).unwrap()
}

fn sources() -> [Normals; 3] {
    [Normals::TorchCpu, Normals::TorchCuda(small_gpu()), Normals::Counter]
}

fn filled(elements: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out = vec![f32::NAN; elements];
    fill(&mut out);
    out
}

fn philox(generator: &mut Philox, elements: usize) -> Vec<f32> {
    filled(elements, |out| generator.randn(out).unwrap())
}

fn everything() -> Vec<f32> {
    let mut all = philox(&mut Philox::new(5, Topology::T4), 300_001);
    all.extend(philox(&mut Philox::new(5, Topology::H100), 1_300_000));
    all.extend(filled(200_003, |out| CounterStream::new(6).randn(1, 2, 3, out)));
    for normals in sources() {
        let mut noise = BrownianNoise::with_normals(normals, &[1, 2], 40_007, 0.03, 14.6).unwrap();
        all.extend(filled(80_014, |out| noise.noise(9.0, 4.0, out).unwrap()));
        all.extend(filled(80_014, |out| noise.noise(4.0, 3.0, out).unwrap()));
    }
    all
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let digests = [1, 2, 3, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| digest(&everything()))
    });
    assert_eq!(digests, [15_536_379_042_689_639_881; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_item_alone_is_the_item_of_its_batch(
        seed: u64,
        items in 1..7usize,
        elements in prop_oneof![1..70usize, 600..640usize, 1000..1100usize],
        before in 0..20usize,
    ) {
        let mut cpu = Mt19937::new(seed);
        cpu.randn(&mut vec![0.0; before]);
        let mut cuda = Philox::new(seed, small_gpu());
        philox(&mut cuda, before);
        let (cpu_batch, cuda_batch) = {
            let (mut cpu, mut cuda) = (cpu.clone(), cuda.clone());
            // The values after the batch show where the generator is left.
            let next = [filled(items * elements, |out| cpu.randn(out)), filled(20, |out| cpu.randn(out))].concat();
            (next, [philox(&mut cuda, items * elements), philox(&mut cuda, 20)].concat())
        };
        for item in 0..items {
            let (mut cpu, mut cuda) = (cpu.clone(), cuda.clone());
            let range = item * elements..(item + 1) * elements;
            let alone = filled(elements, |out| cpu.randn_item(items, item, out).unwrap());
            prop_assert_eq!(alone, &cpu_batch[range.clone()]);
            prop_assert_eq!(filled(20, |out| cpu.randn(out)), &cpu_batch[items * elements..]);
            let alone = filled(elements, |out| cuda.randn_item(items, item, out).unwrap());
            prop_assert_eq!(alone, &cuda_batch[range]);
            prop_assert_eq!(philox(&mut cuda, 20), &cuda_batch[items * elements..]);
        }
    }

    #[test]
    fn an_item_of_a_multiple_of_16_is_the_same_in_any_batch(seed: u64, len in 1..5usize, item in 0..5usize, more in 1..9usize) {
        let [small, large] = [item + 1, item + more].map(|items| {
            filled(16 * len, |out| Mt19937::new(seed).randn_item(items, item, out).unwrap())
        });
        prop_assert_eq!(small, large);
    }

    #[test]
    fn a_counter_streams_elements_can_be_drawn_in_any_parts(seed: u64, item: u32, draw: u32, first in 0..600usize, len in 0..600usize) {
        let stream = CounterStream::new(seed);
        let all = filled(1200, |out| stream.randn(item, draw, 0, out));
        prop_assert_eq!(filled(len, |out| stream.randn(item, draw, first as u64, out)), &all[first..first + len]);
    }

    #[test]
    fn increments_add_up_whatever_the_source(
        seed: u64,
        source in 0..3usize,
        elements in prop_oneof![1..70usize, 2040..2060usize, 16_380..16_420usize],
        times in prop::array::uniform3(0.0..15.0f64),
    ) {
        let mut tree = BrownianTree::with_normals(sources()[source], seed, elements, 0.0, 15.0).unwrap();
        let mut increment = |ta, tb| filled(elements, |out| tree.increment(ta, tb, out).unwrap());
        let [a, b, c] = times;
        let (ab, bc, ac) = (increment(a, b), increment(b, c), increment(a, c));
        let sum: Vec<f32> = ab.iter().zip(&bc).map(|(x, y)| x + y).collect();
        assert_close("sum of increments", &sum, &ac, 1e-5);
        prop_assert_eq!(increment(a, b), ab);
    }
}

fn moment(values: &[f32], power: i32) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / values.len() as f64
}

/// Five standard errors each: Var(x) = 1, Var(x^2) = 2, Var(x^3) = 15, Var(x^4) = 96.
fn assert_standard_normal(what: &str, values: &[f32]) {
    for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
        let error = (moment(values, power) - expected).abs();
        assert!(
            error < 5.0 * (variance / values.len() as f64).sqrt(),
            "{what}: moment {power} is off by {error}"
        );
    }
}

fn assert_uncorrelated(what: &str, x: &[f32], y: &[f32]) {
    let correlation =
        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() / x.len() as f64;
    assert!(correlation.abs() < 5.0 / (x.len() as f64).sqrt(), "{what}: {correlation}");
}

#[test]
fn every_source_is_standard_normal() {
    const N: usize = 1_000_000;
    assert_standard_normal("philox", &philox(&mut Philox::new(3, Topology::T4), N));
    assert_standard_normal("counter", &filled(N, |out| CounterStream::new(3).randn(0, 0, 0, out)));
    for normals in sources() {
        let mut noise = BrownianNoise::with_normals(normals, &[4], N, 0.03, 14.6).unwrap();
        let [first, second] = [(14.6, 6.0), (6.0, 4.5)]
            .map(|(sigma, sigma_next)| filled(N, |out| noise.noise(sigma, sigma_next, out).unwrap()));
        assert_standard_normal("brownian", &second);
        assert_uncorrelated("steps that follow each other", &first, &second);
    }
}

#[test]
fn addresses_that_differ_in_one_number_give_independent_values() {
    const N: usize = 1_000_000;
    let draw =
        |seed, item, draw, first| filled(N, |out| CounterStream::new(seed).randn(item, draw, first, out));
    let base = draw(7, 0, 0, 0);
    let others = [
        ("seed", draw(8, 0, 0, 0)),
        ("high half of the seed", draw(7 + (1 << 32), 0, 0, 0)),
        ("item", draw(7, 1, 0, 0)),
        ("last item", draw(7, u32::MAX, 0, 0)),
        ("draw", draw(7, 0, 1, 0)),
        ("elements", draw(7, 0, 0, N as u64)),
        ("elements beyond one word", draw(7, 0, 0, 1 << 34)),
    ];
    for (what, other) in others {
        assert_uncorrelated(what, &base, &other);
    }
    assert_uncorrelated("neighbours", &base[1..], &base[..N - 1]);
}

#[test]
fn draws_of_a_gpu_differ_only_past_its_threads() {
    let [t4, h100] =
        [Topology::T4, Topology::H100].map(|topology| philox(&mut Philox::new(9, topology), 40_961));
    assert_eq!(t4[..10], h100[..10]);
    let same = t4.iter().zip(&h100).take_while(|(a, b)| a == b).count();
    assert_eq!(same, 40_960);
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |what: &str, result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::Value { .. })), "{what}: {result:?}");
    };
    for elements in [usize::MAX, usize::MAX / 4, 1 << 60] {
        for normals in sources() {
            refused("elements", BrownianTree::with_normals(normals, 0, elements, 0.0, 1.0).map(drop));
            refused("elements", BrownianNoise::with_normals(normals, &[0, 1], elements, 0.0, 1.0).map(drop));
        }
    }
    let long = BrownianTree::with_normals(Normals::TorchCuda(Topology::H100), 0, (1 << 29) + 1, 0.0, 1.0);
    refused("a draw that torch divides", long.map(drop));
    for (multiprocessors, threads) in [(0, 2048), (108, 0), (108, 255)] {
        refused("topology", Topology::new(multiprocessors, threads).map(drop));
    }
    assert!(Topology::new(u32::MAX, u32::MAX).is_ok());
    let out = &mut [0.0; 4];
    for (items, item) in [(0, 0), (3, 3), (usize::MAX, 2), (65_537, 0), (2, usize::MAX)] {
        refused("item", Mt19937::new(0).randn_item(items, item, out));
    }
    for (items, item) in [(0, 0), (3, 3), (usize::MAX, 2), (1 << 28, 0), (2, usize::MAX)] {
        refused("item", Philox::new(0, Topology::T4).randn_item(items, item, out));
    }
    let widest = Topology::new(u32::MAX, u32::MAX).unwrap();
    assert_eq!(philox(&mut Philox::new(0, widest), 5), philox(&mut Philox::new(0, Topology::T4), 5));
    CounterStream::new(u64::MAX).randn(u32::MAX, u32::MAX, u64::MAX, out);
    assert!(out.iter().all(|v| v.is_finite()));
    assert!(philox(&mut Philox::new(0, Topology::T4), 0).is_empty());
}
