//! Samplers, the k-sampler and the variation node on the toy denoiser, against ComfyUI 0.3.64 and ComfyUI_essentials
//! 33ff89f: `tests/golden/samplers.safetensors` and `variations_toy.safetensors`.

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use noisefork::reference::Reference;
use noisefork::sampling::program::{Builder, Value};
use noisefork::sampling::samplers::{Algorithm, Dpm2, Dpm2Ancestral, Properties};
use noisefork::sampling::{Betas, KSampler, LatentImage, Model, ModelSampling, Progress, Sampler};
use noisefork::tensor::{Shaped, Tensor};
use serde::Deserialize;
use support::compare::{assert_close_l2, relative_l2};
use support::golden::{Case, Golden};
use support::report::report;
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

fn sampler(case: &Case) -> Sampler {
    case.str("sampler").parse().unwrap()
}

fn ksampler(case: &Case, sampler: Sampler) -> KSampler {
    let scheduler = case.str("scheduler").parse().unwrap();
    KSampler::new(case.seed("seed"), case.usize("steps"), case.f64("cfg"), sampler, scheduler)
}

/// Asserts the tolerance, and keeps the worst error of each sampler.
#[derive(Default)]
struct Worst(BTreeMap<String, f64>);

impl Worst {
    fn check(&mut self, case: &Case, field: &str, got: &[f32], want: &[f32]) {
        assert_close_l2(&format!("{case}: {field}"), got, want, TOLERANCE);
        let worst = self.0.entry(case.str("sampler").to_owned()).or_default();
        *worst = worst.max(relative_l2(got, want));
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        for (sampler, error) in &self.0 {
            report(format!("samplers: {sampler}: relative L2 error {error:.1e}"));
        }
    }
}

/// The cases of a kind.
fn cases<'a>(golden: &'a Golden, kind: Option<&str>) -> Vec<Case<'a>> {
    let of_kind =
        |case: &Case| if case.has("kind") { Some(case.str("kind")) == kind } else { kind.is_none() };
    golden.cases().into_iter().filter(of_kind).collect()
}

fn proceed<B: noisefork::ops::Backend>(_: &Progress<'_, B>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What the reference shows an observer as `x`, of what the model was shown in each step and the result.
fn shown(sampler: &str, seen: &[f32], samples: &[f32]) -> Option<Vec<f32>> {
    match sampler {
        // The start, all along.
        "ipndm" | "ipndm_v" | "deis" => Some(seen[..samples.len()].repeat(seen.len() / samples.len())),
        // What the step leaves.
        "dpm_adaptive" => Some([&seen[samples.len()..], samples].concat()),
        // What the corrector leaves, in another scale: no model is shown that.
        "uni_pc" | "uni_pc_bh2" => None,
        _ => Some(seen.to_vec()),
    }
}

#[test]
fn whole_runs() {
    let (golden, backend) = (Golden::open("samplers"), Cpu::new());
    let cases = cases(&golden, None);
    let mut worst = Worst::default();
    for case in &cases {
        let ksampler = ksampler(case, sampler(case));
        let mut model = model(&backend, case);
        let latent = Tensor::zeros([2, 4, 8, 6]);
        let plan = ksampler.plan(&model.sampling).unwrap().unwrap();
        let program = plan.program();

        let mut seen: [Vec<f32>; 2] = Default::default();
        let mut watch = |progress: &Progress<'_, Cpu>| {
            seen[0].extend(progress.x.data());
            seen[1].extend(progress.denoised.data());
            ControlFlow::Continue(())
        };
        let samples = ksampler.sample(&mut model, &latent, &mut watch).unwrap();

        assert_eq!(model.denoiser.calls, case.usize("model_calls"), "{case}");
        if !program.is_open() {
            assert_eq!(program.model_calls(), case.usize("model_calls"), "{case}");
        }
        let [x, x0] = seen;
        if case.has_tensor("x0") {
            worst.check(case, "x0", &x0, case.tensor("x0").data());
        }
        if case.has_tensor("x")
            && let Some(x) = shown(case.str("sampler"), &x, samples.data())
        {
            worst.check(case, "x", &x, case.tensor("x").data());
        }
        worst.check(case, "samples", samples.data(), case.tensor("samples").data());
    }
    report(format!("samplers: {} whole runs", cases.len()));
    assert_eq!(cases.len(), 168);
}

#[test]
fn windows_and_denoise_and_masks() {
    let (golden, backend) = (Golden::open("samplers"), Cpu::new());
    for (kind, count) in [("window", 144), ("denoise", 24), ("mask", 24)] {
        let cases = cases(&golden, Some(kind));
        let mut worst = Worst::default();
        for case in &cases {
            let mut ksampler = ksampler(case, sampler(case));
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
            let latent = LatentImage { noise_mask: mask.as_ref(), ..(&latent).into() };
            let samples = ksampler.sample(&mut model(&backend, case), latent, &mut proceed).unwrap();
            worst.check(case, "samples", samples.data(), case.tensor("samples").data());
        }
        report(format!("samplers: {} {kind} cases", cases.len()));
        assert_eq!(cases.len(), count, "{kind}");
    }
}

/// An algorithm that is given every level of a schedule, as the reference's are when they are called by themselves.
#[derive(Debug)]
struct EveryLevel<A>(A);

impl<A: Algorithm> Algorithm for EveryLevel<A> {
    fn properties(&self) -> Properties {
        Properties { drops_penultimate: false, ..self.0.properties() }
    }

    fn write(
        &self,
        model: &ModelSampling,
        sigmas: &[f64],
        p: &mut Builder,
    ) -> noisefork::error::Result<Value> {
        self.0.write(model, sigmas, p)
    }
}

fn with_options(case: &Case) -> Sampler {
    let options = case.value("options");
    match case.str("sampler") {
        "dpm_2" => Sampler::new("dpm_2", EveryLevel(Dpm2::deserialize(options).unwrap())),
        "dpm_2_ancestral" => {
            Sampler::new("dpm_2_ancestral", EveryLevel(Dpm2Ancestral::deserialize(options).unwrap()))
        }
        name => Sampler::with_options(name, options.as_object().unwrap()).unwrap(),
    }
}

#[test]
fn options_of_the_samplers() {
    let (golden, backend) = (Golden::open("samplers"), Cpu::new());
    let cases = cases(&golden, Some("options"));
    let mut worst = Worst::default();
    for case in &cases {
        let mut ksampler = ksampler(case, with_options(case));
        let mut model = model(&backend, case);
        if case.has("error") {
            // The reference fails; its rhoab is by its paper what lms of the same order is.
            let latent = Tensor::zeros([1, 4, 8, 6]);
            let samples = ksampler.sample(&mut model, &latent, &mut proceed).unwrap();
            let order = serde_json::json!({ "order": 3 });
            ksampler.sampler = Sampler::with_options("lms", order.as_object().unwrap()).unwrap();
            let lms = ksampler.sample(&mut model, &latent, &mut proceed).unwrap();
            assert_eq!(samples.data(), lms.data(), "{case}");
            continue;
        }
        let plan = ksampler.plan(&model.sampling).unwrap().unwrap();
        assert_close_l2(&case.to_string(), plan.sigmas(), case.tensor("sigmas").data(), TOLERANCE);
        let latent = Tensor::zeros(case.tensor("noise").shape());
        let samples = ksampler.sample(&mut model, &latent, &mut proceed).unwrap();
        worst.check(case, "samples", samples.data(), case.tensor("samples").data());
    }
    report(format!("samplers: {} options cases", cases.len()));
    assert_eq!(cases.len(), 24);
}

#[test]
fn the_variation_node() {
    let (golden, backend) = (Golden::open("variations_toy"), Cpu::new());
    let cases = cases(&golden, None);
    let mut worst = Worst::default();
    for case in &cases {
        let mut model = Model { latent_scale: 0.18215, ..model(&backend, case) };
        let samples = case.variations().sample(&mut model, &case.tensor("latent"), &mut proceed).unwrap();
        worst.check(case, "samples", samples.data(), case.tensor("samples").data());
    }
    report(format!("variations: {} cases on the toy denoiser", cases.len()));
    assert_eq!(cases.len(), 30);
}
