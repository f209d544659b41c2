//! What noise costs a sampler: a batch's first noise, and a step along a Brownian path.
#![allow(missing_docs)] // What the macros below make has none.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use noisefork::rng::{BrownianNoise, CounterStream, Mt19937, Normals, Philox, Topology};
use std::hint::black_box;
use std::time::Duration;

/// A latent of 512 x 512 pixels, and sixteen of 1024 x 1024.
const SIZES: [(&str, usize); 2] = [("1x4x64x64", 4 * 64 * 64), ("16x4x128x128", 16 * 4 * 128 * 128)];

/// Fails unless the values could be standard normal ones: a benchmark of zeros would be a fast one.
fn assert_normal(values: &[f32]) {
    let n = values.len() as f64;
    let mean = values.iter().copied().map(f64::from).sum::<f64>() / n;
    let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 / n.sqrt() && (variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
}

fn first_noise(c: &mut Criterion) {
    let mut group = c.benchmark_group("randn");
    for (shape, elements) in SIZES {
        let mut out = vec![0.0; elements];
        group.throughput(Throughput::Elements(elements as u64));
        let mut run = |source: &str, draw: &mut dyn FnMut(&mut [f32])| {
            group.bench_function(BenchmarkId::new(source, shape), |bench| {
                draw(&mut out);
                assert_normal(&out);
                bench.iter(|| draw(black_box(&mut out)));
            });
        };
        let mut cpu = Mt19937::new(1);
        run("torch cpu", &mut |out| cpu.randn(out));
        let mut cuda = Philox::new(1, Topology::H100);
        run("torch cuda", &mut |out| cuda.randn(out).unwrap());
        let mut draws = 0..;
        run("counter", &mut |out| CounterStream::new(1).randn(0, draws.next().unwrap(), 0, out));
    }
}

/// The levels of 20 steps by Karras et al. (2022), from the largest to the smallest of Stable Diffusion 1.
fn karras() -> Vec<f32> {
    let (max, min) = (14.614_642f64.powf(1.0 / 7.0), 0.029_167_5f64.powf(1.0 / 7.0));
    (0..20).map(|i| (max + f64::from(i) / 19.0 * (min - max)).powi(7) as f32).collect()
}

fn brownian_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("brownian step");
    let sigmas = karras();
    for (shape, elements) in SIZES {
        let mut out = vec![0.0; elements];
        group.throughput(Throughput::Elements(elements as u64));
        group.sample_size(20);
        let sources = [
            ("torch cpu", Normals::TorchCpu),
            ("torch cuda", Normals::TorchCuda(Topology::H100)),
            ("counter", Normals::Counter),
        ];
        for (source, normals) in sources {
            let (min, max) = (sigmas[sigmas.len() - 1], sigmas[0]);
            let mut noise = BrownianNoise::with_normals(normals, &[1], elements, min, max).unwrap();
            let mut steps = sigmas.array_windows().cycle();
            let mut step = || {
                let &[sigma, sigma_next] = steps.next().unwrap();
                noise.noise(sigma, sigma_next, black_box(&mut out)).unwrap();
            };
            // Once along the levels, so that what is timed allocates nothing.
            (1..sigmas.len()).for_each(|_| step());
            group.bench_function(BenchmarkId::new(source, shape), |bench| bench.iter(&mut step));
            assert_normal(&out);
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = first_noise, brownian_step
}
criterion_main!(benches);
