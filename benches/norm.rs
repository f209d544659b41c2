//! Normalisations over the shapes of Stable Diffusion 1.5 at 512 x 512 pixels, a batch of 2: what they cost, and in bytes
//! per second of what must be read and written, which a machine's memory can be held against.
#![allow(missing_docs)] // What the macros below make has none.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use noisefork::cpu::{Compute, Cpu};
use noisefork::ops::{Activation, Backend, GroupNorm, LayerNorm};
use noisefork::pool::PooledTensor;
use noisefork::tensor::Tensor;
use std::hint::black_box;

/// Items, pixels, channels.
const SHAPES: [[usize; 3]; 3] = [[2, 4096, 320], [2, 1024, 640], [2, 256, 1280]];

/// Uniform in `[2, 4)`.
fn tensor(shape: [usize; 3]) -> Tensor {
    let mut seed = 1u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        3.0 + seed as i32 as f32 / (1u32 << 31) as f32
    };
    Tensor::new(shape, (0..shape.iter().product()).map(|_| next()).collect()).unwrap()
}

/// Fails unless the values of uniform ones, normalised, have moments that they should.
fn assert_normalised<E: Compute>(y: &PooledTensor<E>, mean: f64, variance: f64) {
    let values = || y.data().iter().map(|y| f64::from(y.widen()));
    let n = y.data().len() as f64;
    let got = values().sum::<f64>() / n;
    let spread = values().map(|y| (y - got).powi(2)).sum::<f64>() / n;
    assert!((got - mean).abs() < 0.01, "mean {got} instead of {mean}");
    assert!((spread - variance).abs() < 0.01, "variance {spread} instead of {variance}");
}

fn norms<E: Compute>(c: &mut Criterion, element: &str) {
    let cpu = Cpu::<E>::default();
    for shape in SHAPES {
        let x = cpu.upload(&tensor(shape)).unwrap();
        let one = cpu.upload(&Tensor::new([shape[2]], vec![1.0; shape[2]]).unwrap()).unwrap();
        let mut y = cpu.empty(shape.into()).unwrap();
        let id = format!("{}x{}x{}", shape[0], shape[1], shape[2]);
        let mut group = c.benchmark_group(format!("norm {element}"));
        group.throughput(Throughput::Bytes(2 * size_of_val(x.data()) as u64));

        let (eps, activation) = (1e-5, Activation::Silu);
        let op = GroupNorm { x: &x, gamma: &one, beta: &one, groups: 32, eps, activation };
        group.bench_function(BenchmarkId::new("group norm + silu", &id), |bench| {
            bench.iter(|| cpu.group_norm(black_box(&op), &mut y).unwrap());
        });
        // Of silu(1 + u), u uniform of variance 1.
        assert_normalised(&y, 0.879, 0.742);

        let op = LayerNorm { x: &x, gamma: &one, beta: &one, eps };
        group.bench_function(BenchmarkId::new("layer norm", &id), |bench| {
            bench.iter(|| cpu.layer_norm(black_box(&op), &mut y).unwrap());
        });
        assert_normalised(&y, 1.0, 1.0);
    }
}

fn in_f32(c: &mut Criterion) {
    norms::<f32>(c, "f32");
}

fn in_bf16(c: &mut Criterion) {
    norms::<bf16>(c, "bf16");
}

criterion_group!(benches, in_f32, in_bf16);
criterion_main!(benches);
