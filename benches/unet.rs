//! One answer of the SD 1.5 UNet, a 64 x 64 latent under 77 tokens, with made-up weights. Throughput is in floating-point
//! operations. `noisefork bench unet` measures other models and sizes, and says where the time goes.
#![allow(missing_docs)] // What the macros below make has none.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use noisefork::cpu::{Compute, Cpu};
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::rng::CounterStream;
use noisefork::tensor::{Shape, Tensor};
use noisefork::unet::{Preset, UNet};

const BATCH: usize = 1;
const SIDE: usize = 64;
const TOKENS: usize = 77;

/// Standard normal values.
fn normal(shape: impl Into<Shape>) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    CounterStream::new(1).randn(0, 0, 0, tensor.data_mut());
    tensor
}

fn answer<E: Compute>(c: &mut Criterion) {
    let cpu = Arc::new(Cpu::<E>::default());
    let unet = UNet::from_parts(cpu.clone(), Preset::Sd15.config(), &Weights::synthetic(0)).expect("a model");
    let unet = Arc::new(unet);
    let context = normal([1, TOKENS, unet.config().cross_attention_dim()]);
    let conditioning = unet.prepare(&context, BATCH, None).expect("a context");
    let times = unet.times(&[[500.0]], &conditioning).expect("a time");
    let mut plan = unet.plan(BATCH, [SIDE, SIDE], TOKENS).expect("a size");
    let x = cpu.upload(&normal(plan.shape())).expect("memory");

    // Weights keep the scale of what they are given, and an answer that is computed twice is the same.
    let mut once = || plan.forward(&x, &times, 0, &conditioning).expect("a plan for it").cast::<f32>();
    let (first, second) = (once(), once());
    let deviation = (first.data().iter().map(|v| v * v).sum::<f32>() / first.data().len() as f32).sqrt();
    assert!((0.05..20.0).contains(&deviation), "a deviation of {deviation}");
    assert!(first == second);

    let mut group = c.benchmark_group("sd15");
    group.throughput(Throughput::Elements(plan.flops())).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    group.bench_function(E::DTYPE.to_string(), |bench| {
        bench.iter(|| plan.forward(&x, &times, 0, &conditioning).expect("a plan for it").data()[0]);
    });
}

criterion_group!(benches, answer::<f32>, answer::<bf16>);
criterion_main!(benches);
