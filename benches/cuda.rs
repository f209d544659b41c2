//! The CUDA kernels at the shapes of Stable Diffusion 1.5 and SDXL, two latents of 64 x 64 and of 128 x 128, in f16.
//!
//! Each sample is a row of launches between two events, one wait at its end. Throughput is in floating-point operations, or in bytes where
//! memory is what an operation waits for. Without a device it says so; `REQUIRE_GPU=1` makes that a failure.
#![allow(missing_docs)] // What the macros below make has none.

#[path = "../tests/support/gpu.rs"]
mod gpu;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use noisefork::cuda::{Cuda, Driver};
use noisefork::error::Result;
use noisefork::ops::{Activation, Attention, Backend, Columns, Conv2d, GroupNorm, LayerNorm, Linear};
use noisefork::tensor::{Shape, Tensor};

type Gpu = Cuda<Driver, f16>;

/// Values in `[-1, 1)`, not all alike.
fn tensor(gpu: &Gpu, shape: impl Into<Shape>) -> Result<<Gpu as Backend>::Tensor> {
    gpu.upload(&host(shape))
}

fn host(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let value = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    Tensor::new(shape, (0..shape.elements() as u64).map(value).collect()).expect("as many values")
}

/// Times launches of `op`, which has run once.
fn bench(
    c: &mut Criterion,
    name: &str,
    throughput: Throughput,
    driver: &Driver,
    mut op: impl FnMut() -> Result<()>,
) {
    op().and_then(|()| driver.synchronize()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut group = c.benchmark_group("cuda");
    group.throughput(throughput).sample_size(10);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    group.bench_function(name, |bench| {
        bench.iter_custom(|times| driver.time(|| (0..times).try_for_each(|_| op())).expect("it ran before"));
    });
}

fn attention(
    c: &mut Criterion,
    gpu: &Gpu,
    driver: &Driver,
    [items, queries, keys, channels, heads]: [usize; 5],
) -> Result<()> {
    let q = tensor(gpu, [items, queries, channels])?;
    let [k, v] = [tensor(gpu, [items, keys, channels])?, tensor(gpu, [items, keys, channels])?];
    let columns = |tensor| Columns { tensor, first: 0 };
    let op = Attention { q: columns(&q), k: columns(&k), v: columns(&v), channels, heads };
    let mut y = gpu.empty(op.check()?)?;
    let name = format!("attention {items}x{queries}x{keys}, {heads} heads of {}", channels / heads);
    bench(c, &name, Throughput::Elements(op.flops()), driver, || gpu.attention(&op, &mut y));
    Ok(())
}

fn norms(c: &mut Criterion, gpu: &Gpu, driver: &Driver, [items, size, channels]: [usize; 3]) -> Result<()> {
    let x = tensor(gpu, [items, size, size, channels])?;
    let [gamma, beta] = [tensor(gpu, [channels])?, tensor(gpu, [channels])?];
    let op =
        GroupNorm { x: &x, gamma: &gamma, beta: &beta, groups: 32, eps: 1e-5, activation: Activation::Silu };
    let mut y = gpu.empty(op.check()?)?;
    let bytes = Throughput::Bytes(op.bytes(&y));
    bench(c, &format!("group norm + SiLU {items}x{size}x{size}x{channels}"), bytes, driver, || {
        gpu.group_norm(&op, &mut y)
    });
    let op = LayerNorm { x: &x, gamma: &gamma, beta: &beta, eps: 1e-5 };
    let bytes = Throughput::Bytes(op.bytes(&y));
    bench(c, &format!("layer norm {items}x{size}x{size}x{channels}"), bytes, driver, || {
        gpu.layer_norm(&op, &mut y)
    });
    Ok(())
}

fn linear(c: &mut Criterion, gpu: &Gpu, driver: &Driver, [rows, inputs, outputs]: [usize; 3]) -> Result<()> {
    let (x, weight) = (tensor(gpu, [1, rows, inputs])?, gpu.pack(host([outputs, inputs]))?);
    let op = Linear { x: &x, weight: &weight, bias: None, residual: None, activation: Activation::Identity };
    let mut y = gpu.empty(op.check()?)?;
    let flops = Throughput::Elements(op.flops());
    bench(c, &format!("linear {rows}x{inputs}x{outputs}"), flops, driver, || gpu.linear(&op, &mut y));
    Ok(())
}

fn conv2d(
    c: &mut Criterion,
    gpu: &Gpu,
    driver: &Driver,
    [items, size, inputs, outputs]: [usize; 4],
) -> Result<()> {
    let (x, weight) = (tensor(gpu, [items, size, size, inputs])?, gpu.pack(host([outputs, 3, 3, inputs]))?);
    let activation = Activation::Identity;
    let op = Conv2d {
        x: &x,
        weight: &weight,
        bias: None,
        shift: None,
        residual: None,
        activation,
        stride: 1,
        upsample: None,
    };
    let mut y = gpu.empty(op.check()?)?;
    let flops = Throughput::Elements(op.flops());
    bench(c, &format!("conv3x3 {items}x{size}x{size} {inputs}->{outputs}"), flops, driver, || {
        gpu.conv2d(&op, &mut y)
    });
    Ok(())
}

fn all(c: &mut Criterion) {
    let Some(driver) = gpu::driver("bench cuda") else { return };
    let gpu = &Gpu::new(driver.clone());
    let mut run = || -> Result<()> {
        for [items, queries, keys, channels, heads] in [
            [2, 4096, 4096, 320, 8],
            [2, 1024, 1024, 640, 8],
            [2, 4096, 77, 320, 8],
            [2, 4096, 4096, 640, 10],
            [2, 1024, 1024, 1280, 20],
        ] {
            attention(c, gpu, &driver, [items, queries, keys, channels, heads])?;
        }
        for shape in [[2, 64, 320], [2, 32, 640], [2, 8, 1280], [2, 128, 320]] {
            norms(c, gpu, &driver, shape)?;
        }
        for shape in [[8192, 320, 320], [8192, 320, 2560], [2048, 640, 5120], [2048, 1280, 10240]] {
            linear(c, gpu, &driver, shape)?;
        }
        for shape in [[2, 64, 320, 320], [2, 32, 640, 640], [2, 8, 1280, 1280], [2, 128, 320, 320]] {
            conv2d(c, gpu, &driver, shape)?;
        }
        Ok(())
    };
    run().unwrap_or_else(|error| panic!("{error}"));
}

criterion_group!(benches, all);
criterion_main!(benches);
