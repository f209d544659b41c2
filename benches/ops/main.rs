//! The CPU's operations at the shapes that Stable Diffusion 1.5, 2.1 and SDXL have at the sizes that they were trained at:
//! of each kind the one on which a step spends most. `noisefork bench ops` measures all of them.
//!
//! On as many threads as `RAYON_NUM_THREADS` says. Throughput is in floating-point operations, or in bytes where memory is
//! what an operation waits for. Values are random; some of every answer are compared with the oracle's.
#![allow(missing_docs)] // What the macros below make has none.

mod sample;

use std::collections::HashMap;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use noisefork::cpu::{Compute, Cpu};
use noisefork::tensor::DType;
use noisefork::trace::{Event, Inputs, Operation, Replay};
use noisefork::unet::Preset;

/// Models, and the side of a latent.
const MODELS: [(Preset, usize); 3] = [(Preset::Sd15, 64), (Preset::Sd21, 96), (Preset::Sdxl, 128)];
const TOKENS: usize = 77;
/// Answers that are compared, of each operation.
const SAMPLES: usize = 7;

/// Bytes that move in the time of an operation, on machines of these years: about one in sixteen.
fn cost(event: &Event) -> u64 {
    event.flops.max(16 * event.bytes)
}

/// What tells operations apart that ask for different things.
fn kind(operation: &Operation) -> String {
    let name = operation.name();
    match operation {
        Operation::Attention { columns: [(q, _), (k, _), _], .. } if q == k => format!("{name}, self"),
        Operation::Linear { activation, .. } => format!("{name} {activation:?}"),
        Operation::Conv2d { stride, upsample, kernel, .. } => {
            format!("{name} {kernel} {stride} {upsample:?}")
        }
        _ => name.to_owned(),
    }
}

/// For each kind of operation of a step the one that costs most in all, at what one costs.
fn costliest(preset: Preset, side: usize, dtype: DType, batch: usize) -> Vec<Event> {
    let events = preset.config().operations(dtype, batch, [side, side], TOKENS).expect("a model");
    let mut costs: HashMap<&Operation, u64> = HashMap::new();
    events.iter().for_each(|event| *costs.entry(&event.operation).or_default() += cost(event));
    let mut chosen: Vec<&Event> = Vec::new();
    for event in &events {
        match chosen.iter_mut().find(|chosen| kind(&chosen.operation) == kind(&event.operation)) {
            None => chosen.push(event),
            Some(chosen) if costs[&event.operation] > costs[&chosen.operation] => *chosen = event,
            Some(_) => {}
        }
    }
    chosen.into_iter().cloned().collect()
}

/// Fails unless some values of the answer are the oracle's for inputs that are rounded alike.
fn assert_right<E: Compute>(operation: &Operation, inputs: &Inputs, y: &[E], tolerance: f64) {
    for at in (0..SAMPLES).map(|sample| sample * (y.len() - 1) / (SAMPLES - 1)) {
        let (got, expected) = (f64::from(y[at].widen()), sample::oracle::<E>(operation, inputs, at));
        let error = (got - expected).abs();
        assert!(error <= tolerance * (1.0 + expected.abs()), "{operation}: {got}, not {expected}, at {at}");
    }
}

fn bench<E: Compute>(c: &mut Criterion, batches: &[usize], tolerance: f64) {
    let cpu = Cpu::<E>::default();
    for (preset, side) in MODELS {
        for &batch in batches {
            let mut group = c.benchmark_group(format!("{preset} {}", E::DTYPE));
            group.sample_size(10).warm_up_time(Duration::from_millis(100));
            group.measurement_time(Duration::from_millis(500));
            for event in costliest(preset, side, E::DTYPE, batch) {
                let Event { operation, flops, bytes, .. } = event;
                let in_memory = 16 * bytes > flops;
                group.throughput(if in_memory {
                    Throughput::Bytes(bytes)
                } else {
                    Throughput::Elements(flops)
                });
                group.bench_function(BenchmarkId::new(operation.to_string(), batch), |bench| {
                    let inputs = Inputs::normal(&operation, 1).expect("memory");
                    let mut replay = Replay::new(&cpu, operation.clone(), &inputs).expect("its inputs");
                    bench.iter(|| replay.run().expect("its inputs"));
                    assert_right(&operation, &inputs, replay.tensor().data(), tolerance);
                });
            }
        }
    }
}

/// In bf16 all batches are measured, which take half as long.
fn in_f32(c: &mut Criterion) {
    bench::<f32>(c, &[2], 1e-4);
}

fn in_bf16(c: &mut Criterion) {
    bench::<bf16>(c, &[1, 2, 8], 2e-2);
}

criterion_group!(benches, in_f32, in_bf16);
criterion_main!(benches);
