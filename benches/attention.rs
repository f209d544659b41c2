//! Attention over the shapes of Stable Diffusion 1.5 at 512 x 512 pixels, a batch of 2: what it costs, and in operations
//! per second, which a machine's peak can be held against.
#![allow(missing_docs)] // What the macros below make has none.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use noisefork::cpu::{Compute, Cpu};
use noisefork::ops::{Attention, Backend, Columns};
use noisefork::pool::PooledTensor;
use noisefork::tensor::{Shaped, Tensor};
use std::hint::black_box;

const ITEMS: usize = 2;
const HEADS: usize = 8;
/// Queries, keys, channels of a head.
const SHAPES: [[usize; 3]; 6] =
    [[4096, 4096, 40], [1024, 1024, 80], [256, 256, 160], [4096, 77, 40], [1024, 77, 80], [256, 77, 160]];

/// Uniform in `[-1, 1)`.
fn tensor(shape: [usize; 3], mut seed: u32) -> Tensor {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed as i32 as f32 / (1u32 << 31) as f32
    };
    Tensor::new(shape, (0..shape.iter().product()).map(|_| next()).collect()).unwrap()
}

/// Fails unless the first and the last row of the first and the last head are what the formula says, in f64.
fn assert_attends<E: Compute>(op: &Attention<'_, Cpu<E>>, y: &PooledTensor<E>, tolerance: f64) {
    let depth = op.channels / op.heads;
    let value = |of: &Columns<'_, Cpu<E>>, row: usize, at: usize| {
        f64::from(of.tensor.data()[row * of.tensor.shape().channels() + of.first + at].widen())
    };
    let (rows, keys) = (y.shape().rows(), op.k.tensor.shape()[1]);
    for (row, first) in [(0, 0), (rows - 1, op.channels - depth)] {
        let keys = row / (rows / ITEMS) * keys..(row / (rows / ITEMS) + 1) * keys;
        let dot =
            |key| (first..first + depth).map(|at| value(&op.q, row, at) * value(&op.k, key, at)).sum::<f64>();
        let weights: Vec<f64> = keys.clone().map(|key| (dot(key) / (depth as f64).sqrt()).exp()).collect();
        for at in first..first + depth {
            let sum: f64 =
                keys.clone().zip(&weights).map(|(key, weight)| weight * value(&op.v, key, at)).sum();
            let (expected, got) =
                (sum / weights.iter().sum::<f64>(), y.data()[row * op.channels + at].widen());
            assert!((f64::from(got) - expected).abs() < tolerance, "{got} instead of {expected}");
        }
    }
}

fn attention<E: Compute>(c: &mut Criterion, element: &str, tolerance: f64) {
    let (mut group, cpu) = (c.benchmark_group(format!("attention {element}")), Cpu::<E>::default());
    group.sample_size(10);
    for [queries, keys, depth] in SHAPES {
        let channels = HEADS * depth;
        let shapes = [[ITEMS, queries, channels], [ITEMS, keys, 2 * channels]];
        let [q, kv] = shapes.map(|shape| cpu.upload(&tensor(shape, 1)).unwrap());
        let op = Attention {
            q: Columns { tensor: &q, first: 0 },
            k: Columns { tensor: &kv, first: 0 },
            v: Columns { tensor: &kv, first: channels },
            channels,
            heads: HEADS,
        };
        let mut y = cpu.empty(op.check().unwrap()).unwrap();
        group.throughput(Throughput::Elements(op.flops()));
        let id = BenchmarkId::new(format!("{HEADS}x{depth}"), format!("{queries}x{keys}"));
        group.bench_function(id, |bench| bench.iter(|| cpu.attention(black_box(&op), &mut y).unwrap()));
        assert_attends(&op, &y, tolerance);
    }
}

fn in_f32(c: &mut Criterion) {
    attention::<f32>(c, "f32", 1e-5);
}

fn in_bf16(c: &mut Criterion) {
    attention::<bf16>(c, "bf16", 1e-2);
}

criterion_group!(benches, in_f32, in_bf16);
criterion_main!(benches);
