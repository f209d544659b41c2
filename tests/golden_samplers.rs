//! Samplers, the k-sampler and the variation node on the toy denoiser, against ComfyUI 0.3.64 and ComfyUI_essentials
//! 33ff89f: `tests/golden/samplers.safetensors` and `variations_toy.safetensors`.

mod support;

use std::ops::ControlFlow;

use noisefork::reference::Reference;
use noisefork::sampling::{
    Betas, KSampler, LatentImage, Model, ModelSampling, Progress, Sampler, Variations,
};
use noisefork::tensor::{Shaped, Tensor};
use support::compare::assert_close_l2;
use support::golden::{Case, Golden};
use support::toy::Toy;

const TOLERANCE: f64 = 2e-4;

type Cpu = Reference<f32>;

fn model<'a>(backend: &'a Cpu, case: &Case) -> Model<'a, Cpu, Toy> {
    let model_type = if case.has("model_type") { case.str("model_type") } else { "EPS" };
    let sampling = match model_type {
        "EPS" => ModelSampling::eps(Betas::STABLE_DIFFUSION),
        "V_PREDICTION" => ModelSampling::v(Betas::STABLE_DIFFUSION),
        "FLOW" => ModelSampling::flow(case.value("settings")["shift"].as_f64().unwrap() as f32),
        other => panic!("{other} in {case}"),
    };
    Model { backend, denoiser: Toy { calls: 0 }, sampling: sampling.unwrap(), latent_scale: 1.0 }
}

/// The sampler of a case, if this version has it.
fn sampler(case: &Case) -> Option<Sampler> {
    case.str("sampler").parse().ok()
}

fn ksampler(case: &Case, sampler: Sampler) -> KSampler {
    let scheduler = case.str("scheduler").parse().unwrap();
    KSampler::new(case.seed("seed"), case.usize("steps"), case.f64("cfg"), sampler, scheduler)
}

/// The cases of a kind whose sampler this version has, with it.
fn cases<'a>(golden: &'a Golden, kind: Option<&str>) -> Vec<(Case<'a>, Sampler)> {
    let of_kind =
        |case: &Case| if case.has("kind") { Some(case.str("kind")) == kind } else { kind.is_none() };
    let with_sampler = |case: Case<'a>| sampler(&case).map(|sampler| (case, sampler));
    golden.cases().into_iter().filter(of_kind).filter_map(with_sampler).collect()
}

fn proceed<B: noisefork::ops::Backend>(_: &Progress<'_, B>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn whole_runs() {
    let (golden, backend) = (Golden::open("samplers"), Cpu::new());
    let cases = cases(&golden, None);
    for (case, sampler) in &cases {
        let ksampler = ksampler(case, sampler.clone());
        let mut model = model(&backend, case);
        let latent = Tensor::zeros([2, 4, 8, 6]);
        let planned = ksampler.plan(&model.sampling).unwrap().unwrap().program.model_calls();

        let mut seen: [Vec<f32>; 2] = Default::default();
        let mut watch = |progress: &Progress<'_, Cpu>| {
            seen[0].extend(progress.x.data());
            seen[1].extend(progress.denoised.data());
            ControlFlow::Continue(())
        };
        let samples = ksampler.sample(&mut model, &latent, &mut watch).unwrap();

        assert_eq!(model.denoiser.calls, case.usize("model_calls"), "{case}");
        assert_eq!(planned, case.usize("model_calls"), "{case}");
        for (field, seen) in ["x", "x0"].iter().zip(&seen) {
            if case.has_tensor(field) {
                assert_close_l2(&format!("{case}: {field}"), seen, case.tensor(field).data(), TOLERANCE);
            }
        }
        assert_close_l2(&case.to_string(), samples.data(), case.tensor("samples").data(), TOLERANCE);
    }
    println!("samplers: {} whole runs", cases.len());
    assert_eq!(cases.len(), 20);
}

#[test]
fn windows_and_denoise_and_masks() {
    let (golden, backend) = (Golden::open("samplers"), Cpu::new());
    for (kind, count) in [("window", 72), ("denoise", 12), ("mask", 12)] {
        let cases = cases(&golden, Some(kind));
        for (case, sampler) in &cases {
            let mut ksampler = ksampler(case, sampler.clone());
            if kind == "window" {
                ksampler.start_step = case.usize("start");
                ksampler.last_step = Some(case.usize("end"));
                ksampler.force_full_denoise = case.bool("force_full_denoise");
                ksampler.disable_noise = case.bool("disable_noise");
            } else {
                ksampler.denoise = case.f64("denoise");
            }
            let latent = case.tensor("latent");
            let mask = case.has_tensor("mask").then(|| case.tensor("mask"));
            let latent = LatentImage { samples: &latent, noise_mask: mask.as_ref() };
            let samples = ksampler.sample(&mut model(&backend, case), latent, &mut proceed).unwrap();
            assert_close_l2(&case.to_string(), samples.data(), case.tensor("samples").data(), TOLERANCE);
        }
        println!("samplers: {} {kind} cases", cases.len());
        assert_eq!(cases.len(), count, "{kind}");
    }
}

#[test]
fn options_of_the_samplers() {
    let (golden, backend) = (Golden::open("samplers"), Cpu::new());
    let cases = cases(&golden, Some("options"));
    for (case, sampler) in &cases {
        let options = case.value("options").as_object().unwrap();
        let ksampler = ksampler(case, Sampler::with_options(sampler.name(), options).unwrap());
        let mut model = model(&backend, case);
        let plan = ksampler.plan(&model.sampling).unwrap().unwrap();
        assert_close_l2(&case.to_string(), &plan.sigmas, case.tensor("sigmas").data(), TOLERANCE);
        let latent = Tensor::zeros(case.tensor("noise").shape());
        let samples = ksampler.sample(&mut model, &latent, &mut proceed).unwrap();
        assert_close_l2(&case.to_string(), samples.data(), case.tensor("samples").data(), TOLERANCE);
    }
    println!("samplers: {} options cases", cases.len());
    assert_eq!(cases.len(), 6);
}

#[test]
fn the_variation_node() {
    let (golden, backend) = (Golden::open("variations_toy"), Cpu::new());
    let cases = cases(&golden, None);
    for (case, sampler) in &cases {
        let node = Variations {
            noise_seed: case.seed("noise_seed"),
            steps: case.usize("steps"),
            cfg: case.f64("cfg"),
            sampler: sampler.clone(),
            scheduler: case.str("scheduler").parse().unwrap(),
            variation_seed: case.seed("variation_seed"),
            variation_strength: case.f64("variation_strength"),
            cfg_scale: case.f64("cfg_scale"),
        };
        let mut model = Model { latent_scale: 0.18215, ..model(&backend, case) };
        let samples = node.sample(&mut model, &case.tensor("latent"), &mut proceed).unwrap();
        assert_close_l2(&case.to_string(), samples.data(), case.tensor("samples").data(), TOLERANCE);
    }
    println!("variations: {} cases on the toy denoiser", cases.len());
    assert_eq!(cases.len(), 22);
}
