//! What must hold of sampling whatever the reference says.

use std::ops::ControlFlow;

use noisefork::error::Result;
use noisefork::reference::Reference;
use noisefork::sampling::program::{Instruction, Program};
use noisefork::sampling::{Betas, Branch, KSampler, Model, ModelSampling, Sampler, Scheduler, Variations};
use noisefork::tensor::Tensor;
use proptest::prelude::*;

type Cpu = Reference<f32>;

/// The exact denoiser of Gaussian data: the posterior mean of `N(mean, deviation²)` seen through noise.
#[derive(Clone, Copy)]
struct Gaussian {
    mean: f64,
    deviation: f64,
}

impl Gaussian {
    fn denoise(self, x: &Tensor, sigma: f64, _: Branch, out: &mut Tensor) -> Result<()> {
        let (noise, own) = (sigma * sigma, self.deviation * self.deviation);
        for (out, &x) in out.data_mut().iter_mut().zip(x.data()) {
            *out = ((self.mean * noise + f64::from(x) * own) / (noise + own)) as f32;
        }
        Ok(())
    }
}

fn eps() -> ModelSampling {
    ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap()
}

fn sample(run: &KSampler, data: Gaussian, latent: &Tensor) -> Tensor {
    let denoiser = |x: &Tensor, sigma: f64, branch, out: &mut Tensor| data.denoise(x, sigma, branch, out);
    let mut model = Model { backend: &Cpu::new(), denoiser, sampling: eps(), latent_scale: 1.0 };
    run.sample(&mut model, latent, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Mean and standard deviation.
fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// 65,536 elements: the standard error of the mean is 0.4 % of a deviation, that of the deviation 0.3 %. The rest of
/// the tolerance is the samplers' own error at 200 steps.
#[test]
fn gaussian_data_is_sampled_to_its_mean_and_deviation() {
    for name in ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde"] {
        for data in [Gaussian { mean: 0.3, deviation: 1.0 }, Gaussian { mean: -1.0, deviation: 0.5 }] {
            let run = KSampler::new(1, 200, 1.0, name.parse().unwrap(), "karras".parse().unwrap());
            // From the data's mean: the highest level is not high enough for a run to forget where it began.
            let latent = Tensor::new([1, 4, 128, 128], vec![data.mean as f32; 4 * 128 * 128]).unwrap();
            let (mean, deviation) = moments(sample(&run, data, &latent).data());
            let (mean_error, ratio) = ((mean - data.mean) / data.deviation, deviation / data.deviation);
            assert!(mean_error.abs() <= 0.01, "{name}: mean {mean}, want {}", data.mean);
            assert!((ratio - 1.0).abs() <= 0.02, "{name}: deviation {deviation}, want {}", data.deviation);
        }
    }
}

#[test]
fn a_run_is_the_same_bits_again() {
    let latent = Tensor::zeros([2, 4, 5, 7]);
    for name in Sampler::names() {
        let run = KSampler::new(9, 7, 1.0, name.parse().unwrap(), Scheduler::Normal);
        let data = Gaussian { mean: 0.1, deviation: 0.7 };
        assert_eq!(sample(&run, data, &latent), sample(&run, data, &latent), "{name}");
    }
}

#[test]
fn cancelling_ends_the_run_in_its_step() {
    let data = Gaussian { mean: 0.0, deviation: 1.0 };
    let denoiser = |x: &Tensor, sigma: f64, branch, out: &mut Tensor| data.denoise(x, sigma, branch, out);
    let mut model = Model { backend: &Cpu::new(), denoiser, sampling: eps(), latent_scale: 1.0 };
    let run = KSampler::new(1, 9, 1.0, "euler".parse().unwrap(), "karras".parse().unwrap());
    let mut stop_at_4 = |progress: &noisefork::sampling::Progress<'_, Cpu>| {
        if progress.step == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let ended = run.sample(&mut model, &Tensor::zeros([1, 4, 2, 2]), &mut stop_at_4);
    assert_eq!(ended, Err(noisefork::error::Error::Cancelled { done: 3, of: 9 }));
}

/// Every slot that is read was written before, by the start or by an instruction, and no instruction reads what it
/// writes.
fn assert_well_formed(program: &Program) {
    let mut written = vec![false; program.slots()];
    written[Program::START.0] = true;
    for instruction in program.steps().iter().flat_map(|step| &step.instructions) {
        let (inputs, outs) = match instruction {
            Instruction::Denoise { x, out, .. } => (vec![*x], vec![*out]),
            Instruction::Noise { out, .. } => (vec![], vec![*out]),
            Instruction::Combine { terms, out } => {
                (terms.iter().map(|(_, slot)| *slot).collect(), vec![*out])
            }
            other => panic!("unknown instruction {other:?}"),
        };
        for input in inputs {
            assert!(written[input.0] && !outs.contains(&input), "{instruction:?}");
        }
        outs.iter().for_each(|out| written[out.0] = true);
    }
    assert!(written[program.result().0]);
}

proptest! {
    #[test]
    fn programs_are_well_formed(
        sampler in 0..5usize, schedule in prop::sample::select(Scheduler::names().collect::<Vec<_>>()),
        steps in 1usize..40, flow in any::<bool>(),
    ) {
        let name = ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde"][sampler];
        let model = if flow { ModelSampling::flow(3.0).unwrap() } else { eps() };
        let Ok(sigmas) = schedule.parse::<Scheduler>().unwrap().sigmas(&model, steps) else { return Ok(()) };
        let program = name.parse::<Sampler>().unwrap().program(&model, &sigmas).unwrap();
        prop_assert_eq!(program.steps().len(), sigmas.len() - 1);
        assert_well_formed(&program);
        prop_assert!(program.slots() <= 5, "{}", program.slots());
    }

    /// What the node computes at the fork is what its formula says, for every strength that its slider offers.
    #[test]
    fn the_fork_is_within_the_schedule(steps in 1usize..10_000, hundredths in 0u32..=100) {
        let strength = f64::from(hundredths) / 100.0;
        let node = Variations {
            noise_seed: 0, steps, cfg: 1.0, sampler: "euler".parse().unwrap(), scheduler: Scheduler::Simple,
            variation_seed: 0, variation_strength: strength, cfg_scale: 1.0,
        };
        let fork = node.fork_step().unwrap();
        prop_assert!((1..=steps).contains(&fork));
        prop_assert!((fork as f64 - steps as f64 * (1.0 - strength)).abs() <= 1.0);
    }
}
