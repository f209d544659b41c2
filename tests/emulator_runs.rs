//! Whole runs whose latents and noise are on the CUDA backend, on the emulator.

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;

use noisefork::cuda::Cuda;
use noisefork::ops::Backend;
use noisefork::reference::Reference;
use noisefork::sampling::{Betas, Denoiser, KSampler, Model, ModelSampling, Progress};
use noisefork::tensor::Tensor;
use support::compare::{assert_close_l2, relative_l2};
use support::emulated::Emulated;
use support::golden::Golden;
use support::report::report;
use support::toy::{Toy, ToyElsewhere};

type Gpu = Cuda<Emulated, f32>;

fn model<'a, B: Backend>(backend: &'a B) -> Model<'a, B, ToyElsewhere<'a, B>>
where
    ToyElsewhere<'a, B>: Denoiser<B>,
{
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    let denoiser = ToyElsewhere { backend, toy: Toy { calls: 0 } };
    Model { backend, denoiser, sampling, latent_scale: 0.18215 }
}

fn proceed<B: Backend>(_: &Progress<'_, B>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn the_variation_node() {
    let (golden, gpu) = (Golden::open("variations_toy"), Emulated::cuda::<f32>(1));
    let mut worst = 0.0f64;
    let cases = golden.cases();
    for case in &cases {
        let samples =
            case.variations().sample(&mut model(&gpu), &case.tensor("latent"), &mut proceed).unwrap();
        let want = case.tensor("samples");
        assert_close_l2(&format!("{case}"), samples.data(), want.data(), 2e-4);
        worst = worst.max(relative_l2(samples.data(), want.data()));
    }
    report(format!(
        "emulator: {} variations on the toy denoiser: relative L2 error {worst:.1e}",
        cases.len()
    ));
    assert_eq!(cases.len(), 30);
}

/// A run of three items.
fn run<B: Backend>(backend: &B, sampler: &str, profile: &str) -> Tensor {
    let ksampler = KSampler {
        profile: profile.parse().unwrap(),
        ..KSampler::new(5, 6, 3.0, sampler.parse().unwrap(), "karras".parse().unwrap())
    };
    let empty = Tensor::zeros([3, 4, 9, 8]);
    ksampler.sample(&mut model(backend), &empty, &mut proceed).unwrap()
}

/// Noise that is made in registers is the host's, so the runs are, but for the rounding of sums.
#[test]
fn noise_of_every_kind_is_made_on_the_device() {
    let samplers = [
        ("euler_ancestral", "inject_normals"),
        ("dpm_2_ancestral", "inject_normals"),
        ("lcm", "inject_normals"),
        ("dpmpp_sde", "inject_path"),
        ("dpmpp_2m_sde", "inject_path"),
        ("dpmpp_3m_sde", "inject_path"),
        ("seeds_3", "inject_normals"),
    ];
    for (sampler, kernel) in samplers {
        for profile in ["counter", "a1111-nv", "a1111-1-blocks"] {
            let emulated = Arc::new(Emulated::new(1));
            let got = run(&Gpu::new(emulated.clone()), sampler, profile);
            let want = run(&Reference::<f32>::new(), sampler, profile);
            assert_close_l2(&format!("{sampler} {profile}"), got.data(), want.data(), 1e-5);
            let launches = emulated.launches.lock().unwrap();
            assert!(launches.contains_key(kernel), "{sampler} {profile}: {launches:?}");
        }
    }
}

#[test]
fn the_schedule_does_not_show() {
    let runs = [1, 2, 3].map(|seed| run(&Emulated::cuda::<f32>(seed), "dpmpp_2m_sde", "counter"));
    assert!(runs[0] == runs[1] && runs[1] == runs[2]);
}
