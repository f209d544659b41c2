//! What a sampler costs beside its model: the arithmetic of a step of `dpmpp_2m_sde`, next to copying as many bytes.
//!
//! The floor is memory: five latents pass, four read and one written. Criterion's throughput is those bytes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use noisefork::cpu::Cpu;
use noisefork::ops::{Backend, Combine};
use noisefork::tensor::{Shape, Shaped, Tensor};

const SHAPES: [[usize; 4]; 2] = [[1, 4, 64, 64], [16, 4, 128, 128]];
/// The latent, the clean one, the one before, the noise.
const TERMS: [f32; 4] = [0.7, 0.4, -0.1, 0.3];

fn latent(shape: Shape, seed: usize) -> Tensor {
    let values = (0..shape.elements()).map(|i| ((i * 31 + seed * 17) % 1009) as f32 / 1009.0 - 0.5);
    Tensor::new(shape, values.collect()).expect("as many values as the shape has")
}

fn step_arithmetic(criterion: &mut Criterion) {
    for shape in SHAPES {
        let shape = Shape::from(shape);
        let latents: [Tensor; 4] = [0, 1, 2, 3].map(|seed| latent(shape, seed));
        let terms = [0, 1, 2, 3].map(|term| (TERMS[term], &latents[term]));
        let combine = Combine { terms: &terms };
        let mut y = Tensor::zeros(shape);
        Cpu::new().combine(&combine, &mut y).expect("latents of one shape");
        let exact =
            |i: usize| -> f64 { terms.iter().map(|(c, x)| f64::from(*c) * f64::from(x.data()[i])).sum() };
        assert!((0..shape.elements()).all(|i| (f64::from(y.data()[i]) - exact(i)).abs() < 1e-6));

        let mut group = criterion.benchmark_group(format!("sampler/{shape}"));
        group.throughput(Throughput::Bytes((TERMS.len() + 1) as u64 * 4 * y.shape().elements() as u64));
        group.bench_function("dpmpp_2m_sde arithmetic", |bencher| {
            bencher.iter(|| Cpu::new().combine(black_box(&combine), &mut y));
        });
        // Half of a copy's bytes are read, half written: two and a half latents copied move five.
        let from = latent([5, shape.elements() / 2].into(), 5);
        let mut to = Tensor::zeros(from.shape());
        group.bench_function("copy of as many bytes", |bencher| {
            bencher.iter(|| to.data_mut().copy_from_slice(black_box(from.data())));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = step_arithmetic
}
criterion_main!(benches);
