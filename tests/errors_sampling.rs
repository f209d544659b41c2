//! What sampling refuses, and in which words.

use std::ops::ControlFlow;

use noisefork::error::{Error, Result};
use noisefork::reference::Reference;
use noisefork::sampling::{
    Betas, Branch, KSampler, LatentImage, Model, ModelSampling, Sampler, Scheduler, Variations,
};
use noisefork::tensor::Tensor;
use serde_json::json;

type Cpu = Reference<f32>;
type Identity = fn(&Tensor, f64, Branch, &mut Tensor) -> Result<()>;

fn identity(x: &Tensor, _: f64, _: Branch, out: &mut Tensor) -> Result<()> {
    out.clone_from(x);
    Ok(())
}

fn not_a_number(_: &Tensor, _: f64, _: Branch, out: &mut Tensor) -> Result<()> {
    out.data_mut().fill(f32::NAN);
    Ok(())
}

fn model(denoiser: Identity) -> Model<'static, Cpu, Identity> {
    static BACKEND: Cpu = Cpu::new();
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    Model { backend: &BACKEND, denoiser, sampling, latent_scale: 1.0 }
}

fn euler(steps: usize) -> KSampler {
    KSampler::new(0, steps, 2.0, "euler".parse().unwrap(), "karras".parse().unwrap())
}

fn sample<'l>(run: &KSampler, latent: impl Into<LatentImage<'l>>) -> Result<Tensor> {
    run.sample(&mut model(identity), latent, &mut |_| ControlFlow::Continue(()))
}

/// Asserts an [`Error::Value`] about `what`.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T>, what: &str) {
    match result {
        Err(Error::Value { what: refused, expected, got, .. }) => {
            assert_eq!(refused, what, "expected {expected}, got {got}");
        }
        other => panic!("{what} was not refused: {other:?}"),
    }
}

#[test]
fn unknown_names_are_met_with_the_nearest() {
    for (name, nearest) in [("eular", "euler"), ("dpmpp_2m_sd", "dpmpp_2m_sde")] {
        match name.parse::<Sampler>() {
            Err(Error::UnknownName { kind: "sampler", got, nearest: near, known }) => {
                assert_eq!((got.as_str(), near[0].as_str()), (name, nearest));
                assert!(known.contains(&"heun".to_owned()));
            }
            other => panic!("{other:?}"),
        }
    }
    let error = "karas".parse::<Scheduler>().unwrap_err().to_string();
    assert!(error.contains("unknown scheduler \"karas\" (nearest: karras"), "{error}");
}

#[test]
fn settings_outside_their_range() {
    let latent = Tensor::zeros([1, 4, 2, 2]);
    assert_refused(sample(&euler(0), &latent), "steps");
    assert_refused(sample(&euler(Scheduler::MAX_STEPS + 1), &latent), "steps");
    assert_refused(sample(&euler(usize::MAX), &latent), "steps");
    for cfg in [f64::NAN, f64::INFINITY] {
        assert_refused(sample(&KSampler { cfg, ..euler(3) }, &latent), "cfg");
    }
    for denoise in [-0.1, 1.1, f64::NAN] {
        assert_refused(sample(&KSampler { denoise, ..euler(3) }, &latent), "denoise");
    }
    // A denoise so small that its schedule would be longer than any that is answered.
    assert_refused(sample(&KSampler { denoise: 1e-9, ..euler(3) }, &latent), "steps");
}

#[test]
fn options_of_samplers() {
    let with = |name, options: serde_json::Value| {
        Sampler::with_options(name, options.as_object().unwrap())
            .and_then(|sampler| sample(&KSampler { sampler, ..euler(3) }, &Tensor::zeros([1, 4, 2, 2])))
    };
    assert!(with("euler_ancestral", json!({"eta": 0.5})).is_ok());
    assert_refused(with("euler_ancestral", json!({"eta": -1.0})), "eta");
    assert_refused(with("euler_ancestral", json!({"eta": "much"})), "options");
    assert_refused(with("euler_ancestral", json!({"etta": 0.5})), "options");
    assert_refused(with("euler", json!({"s_churn": -1.0})), "s_churn");
    assert_refused(with("dpmpp_2m", json!({"eta": 0.5})), "options");
    assert_refused(with("dpmpp_2m_sde", json!({"solver_type": "rk4"})), "options");
    assert_refused(with("dpmpp_2m_sde", json!({"s_noise": -1.0})), "s_noise");
}

#[test]
fn levels_that_no_run_can_visit() {
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    let euler: Sampler = "euler".parse().unwrap();
    for sigmas in
        [&[][..], &[1.0], &[1.0, 1.0], &[1.0, 2.0], &[f32::NAN, 0.0], &[f32::INFINITY, 0.0], &[1.0, -1.0]]
    {
        assert_refused(euler.program(&sampling, sigmas), "sigmas");
    }
    assert_refused(ModelSampling::eps(Betas::ScaledLinear { start: 0.0, end: 0.01 }), "betas");
    assert_refused(ModelSampling::v(Betas::ScaledLinear { start: 0.1, end: f64::NAN }), "betas");
    for shift in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_refused(ModelSampling::flow(shift), "shift");
    }
}

#[test]
fn latents_and_masks_of_the_wrong_form() {
    for shape in [&[4, 2, 2][..], &[0, 4, 2, 2], &[1, 4, 0, 2]] {
        let latent = Tensor::zeros(noisefork::tensor::Shape::try_from_slice(shape).unwrap());
        let refused = sample(&euler(3), &latent);
        assert!(matches!(refused, Err(Error::Shape { tensor: "samples", .. })), "{refused:?}");
    }
    let latent = Tensor::zeros([1, 4, 2, 2]);
    let masked = |mask: &Tensor| sample(&euler(3), LatentImage { samples: &latent, noise_mask: Some(mask) });
    assert!(matches!(masked(&Tensor::zeros([1, 1, 3, 2])), Err(Error::Shape { tensor: "mask", .. })));
    let nan = Tensor::new([1, 1, 2, 2], vec![0.0, 1.0, f32::NAN, 0.5]).unwrap();
    assert_refused(masked(&nan), "noise_mask");

    let infinite = Tensor::new([1, 1, 1, 2], vec![0.0, f32::INFINITY]).unwrap();
    let refused = sample(&euler(3), &infinite);
    assert!(matches!(refused, Err(Error::NotFinite { index: 1, .. })), "{refused:?}");
}

#[test]
fn a_model_that_answers_nan() {
    let latent = Tensor::zeros([1, 4, 2, 2]);
    let answer = euler(3).sample(&mut model(not_a_number), &latent, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(answer, Err(Error::NotFinite { index: 0, .. })), "{answer:?}");
}

#[test]
fn strengths_and_scales_of_the_node() {
    let node = |variation_strength, cfg_scale| Variations {
        noise_seed: 0,
        steps: 5,
        cfg: 2.0,
        sampler: "euler".parse().unwrap(),
        scheduler: Scheduler::Normal,
        variation_seed: 0,
        variation_strength,
        cfg_scale,
    };
    let latent = Tensor::zeros([2, 4, 2, 2]);
    let sample = |node: Variations, latent: &Tensor| {
        node.sample(&mut model(identity), latent, &mut |_| ControlFlow::Continue(()))
    };
    assert!(sample(node(0.5, 1.0), &latent).is_ok());
    for strength in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_refused(sample(node(strength, 1.0), &latent), "variation_strength");
    }
    for scale in [f64::NAN, f64::INFINITY] {
        assert_refused(sample(node(0.5, scale), &latent), "cfg * cfg_scale");
    }
    let refused = sample(node(0.5, 1.0), &Tensor::zeros([0, 4, 2, 2]));
    assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
}
