//! The CPU's products at the shapes of Stable Diffusion 1.5, 512 x 512 pixels, beside what the machine can do at best.
//!
//! `cargo bench --bench ops` on as many threads as `RAYON_NUM_THREADS` says. Throughput is in floating-point operations.
#![allow(missing_docs)] // What the macros below make has none.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use noisefork::cpu::{Compute, Cpu};
use noisefork::ops::{Activation, Backend, Conv2d, Linear};
use noisefork::pool::PooledTensor;
use noisefork::tensor::{Shape, Shaped, Tensor};

/// Uniform in `[-1, 1)`, SplitMix64 of the index.
fn tensor(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let value = |i: u64| {
        let z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    Tensor::new(shape, (0..shape.elements() as u64).map(value).collect()).expect("as many values")
}

/// Times `op`, after its answer was found to be `expected(at)` at a few places: a benchmark of nothing would be a fast
/// one.
fn bench<E: Compute>(
    c: &mut Criterion,
    group: &str,
    shape: &str,
    flops: u64,
    y: &mut PooledTensor<E>,
    mut op: impl FnMut(&mut PooledTensor<E>),
    expected: impl Fn(usize) -> f64,
) {
    op(y);
    for at in (0..y.data().len()).step_by(y.data().len() / 7) {
        let (got, expected) = (y.data()[at].to_f64(), expected(at));
        let tolerance = 1e-4 + 0.01 * expected.abs();
        assert!((got - expected).abs() <= tolerance, "{group} {shape}: {got} instead of {expected} at {at}");
    }
    let mut group = c.benchmark_group(format!("{group} {}", E::DTYPE));
    group.throughput(Throughput::Elements(flops)).sample_size(10);
    group.measurement_time(std::time::Duration::from_secs(1));
    group.warm_up_time(std::time::Duration::from_millis(300));
    group.bench_function(BenchmarkId::from_parameter(shape), |bench| bench.iter(|| op(y)));
}

fn linear<E: Compute>(c: &mut Criterion, [rows, inputs, outputs]: [usize; 3], activation: Activation) {
    let cpu = Cpu::<E>::default();
    let (x, weights) = (cpu.upload(&tensor([1, rows, inputs])).expect("memory"), tensor([outputs, inputs]));
    let weight = cpu.pack(weights.clone()).expect("a weight");
    let op = Linear { x: &x, weight: &weight, bias: None, residual: None, activation };
    let mut y = cpu.empty(op.check().expect("fitting shapes")).expect("memory");
    let width = y.shape().channels();
    let sum = |row: usize, output: usize| -> f64 {
        let terms = x.data()[row * inputs..][..inputs].iter().zip(&weights.data()[output * inputs..]);
        terms.map(|(x, &weight)| x.to_f64() * E::from_f32(weight).to_f64()).sum()
    };
    let gelu = |g: f64| g / 2.0 * (1.0 + libm::erf(g / 2f64.sqrt()));
    let expected = |at: usize| match activation {
        Activation::Geglu => sum(at / width, at % width) * gelu(sum(at / width, at % width + width)),
        _ => sum(at / width, at % width),
    };
    let name = if activation == Activation::Geglu { "linear geglu" } else { "linear" };
    let shape = format!("{rows}x{inputs}x{outputs}");
    let run = |y: &mut PooledTensor<E>| cpu.linear(&op, y).expect("fitting shapes");
    bench(c, name, &shape, op.flops(), &mut y, run, expected);
}

fn conv2d<E: Compute>(c: &mut Criterion, [items, size, inputs, outputs]: [usize; 4]) {
    let cpu = Cpu::<E>::default();
    let (x, weights) =
        (cpu.upload(&tensor([items, size, size, inputs])).expect("memory"), tensor([outputs, 3, 3, inputs]));
    let weight = cpu.pack(weights.clone()).expect("a weight");
    let op = Conv2d {
        x: &x,
        weight: &weight,
        bias: None,
        shift: None,
        residual: None,
        activation: Activation::Identity,
        stride: 1,
        upsample: None,
    };
    let mut y = cpu.empty(op.check().expect("fitting shapes")).expect("memory");
    let expected = |at: usize| {
        let (pixel, output) = (at / outputs, at % outputs);
        let (n, i, j) = (pixel / (size * size), pixel / size % size, pixel % size);
        let mut sum = 0.0;
        for tap in 0..9 {
            let (i, j) = (i + tap / 3, j + tap % 3);
            if (1..=size).contains(&i) && (1..=size).contains(&j) {
                let x = &x.data()[((n * size + i - 1) * size + j - 1) * inputs..][..inputs];
                let weights = &weights.data()[(output * 9 + tap) * inputs..];
                sum += x.iter().zip(weights).map(|(x, &w)| x.to_f64() * E::from_f32(w).to_f64()).sum::<f64>();
            }
        }
        sum
    };
    let shape = format!("{items}x{size}x{size} {inputs}->{outputs}");
    let run = |y: &mut PooledTensor<E>| cpu.conv2d(&op, y).expect("fitting shapes");
    bench(c, "conv3x3", &shape, op.flops(), &mut y, run, expected);
}

fn products<E: Compute>(c: &mut Criterion) {
    for [rows, inputs, outputs] in
        [[8192, 320, 320], [8192, 320, 2560], [8192, 1280, 320], [2048, 640, 5120], [512, 1280, 10240]]
    {
        linear::<E>(c, [rows, inputs, outputs], Activation::Identity);
    }
    linear::<E>(c, [8192, 320, 2560], Activation::Geglu);
    for shape in [[2, 64, 320, 320], [2, 32, 640, 640], [2, 16, 1280, 1280], [2, 8, 1280, 1280]] {
        conv2d::<E>(c, shape);
    }
}

criterion_group!(benches, products::<f32>, products::<bf16>);
criterion_main!(benches);
