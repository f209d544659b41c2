//! What callers may bring to a k-sampler: a batch index, levels, noise.

use std::ops::ControlFlow;

use noisefork::error::{Error, Result};
use noisefork::reference::Reference;
use noisefork::rng::{Mt19937, prepare_noise};
use noisefork::sampling::samplers::NoiseKind;
use noisefork::sampling::{
    Betas, Branch, Denoiser, KSampler, LatentImage, Model, ModelSampling, Noise, NoiseSource, Plan, Profile,
};
use noisefork::tensor::{Shaped, Tensor};

type Cpu = Reference<f32>;

/// Clean latents are a tenth of the noisy ones: what comes out tells what noise went in.
fn a_tenth(x: &Tensor, _: f64, _: Branch, out: &mut Tensor) -> Result<()> {
    out.data_mut().iter_mut().zip(x.data()).for_each(|(out, x)| *out = x / 10.0);
    Ok(())
}

fn model(backend: &Cpu) -> Model<'_, Cpu, impl Denoiser<Cpu>> {
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    Model { backend, denoiser: a_tenth, sampling, latent_scale: 1.0 }
}

fn run(sampler: &str) -> KSampler {
    KSampler::new(42, 6, 1.0, sampler.parse().unwrap(), "karras".parse().unwrap())
}

fn sample<'l>(run: &KSampler, latent: impl Into<LatentImage<'l>>) -> Result<Tensor> {
    run.sample(&mut model(&Cpu::new()), latent, &mut |_| ControlFlow::Continue(()))
}

/// An item of 64 values: its draw does not depend on those before it having been made one by one or at once.
const ITEM: [usize; 4] = [1, 4, 4, 4];

#[test]
fn a_batch_index_makes_items_again() {
    let index = [3, 3, 0, 5];
    let latent = Tensor::zeros([4, 4, 4, 4]);
    let image = LatentImage { batch_index: Some(&index), ..(&latent).into() };
    let chosen = sample(&run("euler"), image).unwrap();
    let whole = sample(&run("euler"), &Tensor::zeros([6, 4, 4, 4])).unwrap();
    for (item, index) in index.into_iter().enumerate() {
        assert_eq!(
            chosen.items(item..item + 1).unwrap(),
            whole.items(index..index + 1).unwrap(),
            "item {item}"
        );
    }
    let mut noise = vec![0.0; 256];
    prepare_noise(42, &index, &mut noise).unwrap();
    let ratio = chosen.data()[0] / noise[0];
    assert!(chosen.data().iter().zip(&noise).all(|(sample, noise)| (sample - ratio * noise).abs() < 1e-5));

    let short = LatentImage { batch_index: Some(&index[..3]), ..(&latent).into() };
    assert!(matches!(sample(&run("euler"), short), Err(Error::Value { what: "batch_index", .. })));
    let far = [0, 1, 2, usize::MAX];
    let far = LatentImage { batch_index: Some(&far), ..(&latent).into() };
    assert!(matches!(sample(&run("euler"), far), Err(Error::Value { what: "batch index", .. })));
}

#[test]
fn steps_at_the_end_of_their_type() {
    let latent = Tensor::zeros(ITEM);
    let whole = run("euler");
    let to_the_last = KSampler { last_step: Some(usize::MAX), ..run("euler") };
    assert_eq!(sample(&to_the_last, &latent), sample(&whole, &latent));
    let beyond = KSampler { start_step: usize::MAX, ..run("euler") };
    assert_eq!(sample(&beyond, &latent), Ok(latent));
}

#[test]
fn levels_of_the_callers() {
    let (backend, latent) = (Cpu::new(), Tensor::zeros(ITEM));
    let mut model = model(&backend);
    let run = run("dpmpp_2m");
    let schedule = run.plan(&model.sampling).unwrap().unwrap();
    let plan = Plan::along(schedule.sigmas().to_vec(), &run.sampler, &model.sampling).unwrap();
    let noise = &mut *run.profile.noise(run.seed);
    let along = run.start_along(plan, &mut model, &latent, noise).unwrap();
    assert_eq!(along.finish(&mut |_| ControlFlow::Continue(())), sample(&run, &latent));

    for sigmas in [vec![1.0], vec![1.0, 2.0], vec![f32::NAN, 0.0]] {
        let refused = Plan::along(sigmas, &run.sampler, &model.sampling);
        assert!(matches!(refused, Err(Error::Value { what: "sigmas", .. })), "{refused:?}");
    }
}

/// Noise that is the same everywhere: 1 to start from, and a tenth in every step.
struct Flat {
    asked: Vec<NoiseKind>,
}

impl Noise for Flat {
    fn initial(&mut self, _: usize, _: Option<&[usize]>, out: &mut [f32]) -> Result<()> {
        out.fill(1.0);
        Ok(())
    }

    fn steps(&mut self, kind: NoiseKind, _: &[f32], _: usize, _: usize) -> Result<Box<dyn NoiseSource>> {
        self.asked.push(kind);
        Ok(Box::new(FlatSteps))
    }
}

struct FlatSteps;

impl NoiseSource for FlatSteps {
    fn draw(&mut self, sigma: f64, sigma_next: f64, out: &mut [f32]) -> Result<()> {
        assert!(sigma > sigma_next);
        out.fill(0.1);
        Ok(())
    }
}

#[test]
fn noise_of_the_callers() {
    let (backend, latent) = (Cpu::new(), Tensor::zeros([2, 4, 3, 3]));
    for (name, kind) in [
        ("euler", NoiseKind::None),
        ("euler_ancestral", NoiseKind::Gaussian),
        ("dpmpp_2m_sde", NoiseKind::Brownian),
    ] {
        let (run, mut model, mut noise) = (run(name), model(&backend), Flat { asked: Vec::new() });
        let plan = run.plan(&model.sampling).unwrap().unwrap();
        let samples = run
            .start_along(plan, &mut model, &latent, &mut noise)
            .and_then(|run| run.finish(&mut |_| ControlFlow::Continue(())))
            .unwrap();
        assert_eq!(noise.asked, [kind], "{name}");
        assert!(samples.data().iter().all(|value| *value == samples.data()[0]), "{name}");
    }
}

/// The sampler that counts is the plan's.
#[test]
fn a_plan_of_another_sampler() {
    let (backend, latent) = (Cpu::new(), Tensor::new(ITEM, vec![0.5; 64]).unwrap());
    let mask = Tensor::zeros([1, 1, 4, 4]);
    let image = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
    for (name, kind) in [("dpmpp_2m_sde", NoiseKind::Brownian), ("ddim", NoiseKind::None)] {
        let mut shown = Vec::new();
        for settings in ["euler", name] {
            let (run, mut model, mut noise) = (run(settings), model(&backend), Flat { asked: Vec::new() });
            let plan = self::run(name).plan(&model.sampling).unwrap().unwrap();
            let run = run.start_along(plan, &mut model, image, &mut noise).unwrap();
            run.finish(&mut |step| {
                shown.push((step.step, step.x.clone()));
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(noise.asked, [kind], "{name} under the settings of {settings}");
        }
        let (first, second) = shown.split_at(shown.len() / 2);
        assert_eq!(first, second, "{name}");
    }
}

#[test]
fn profiles_differ_where_they_say() {
    let latent = Tensor::zeros(ITEM);
    let with = |profile, sampler| sample(&KSampler { profile, ..run(sampler) }, &latent).unwrap();
    let [old, new] = [Profile::Comfyui0_3_64, Profile::ComfyuiPost11528];
    assert_eq!(with(old, "euler"), with(new, "euler"));
    assert_eq!(with(old, "dpmpp_2m_sde"), with(new, "dpmpp_2m_sde"));
    assert_ne!(with(old, "euler_ancestral"), with(new, "euler_ancestral"));
    // The older one meets its initial noise again.
    let mut initial = vec![0.0; 64];
    Mt19937::new(42).randn(&mut initial);
    let elements = latent.shape().elements();
    let sigmas = [14.6, 1.0, 0.0];
    let first_step = |profile: Profile| {
        let mut noise = vec![0.0; elements];
        let mut steps = profile.noise(42).steps(NoiseKind::Gaussian, &sigmas, 1, elements).unwrap();
        steps.draw(14.6, 1.0, &mut noise).unwrap();
        noise
    };
    assert_eq!(first_step(old), initial);
    assert_ne!(first_step(new), initial);
    assert!(matches!("comfyui".parse::<Profile>(), Err(Error::UnknownName { kind: "profile", .. })));
}
