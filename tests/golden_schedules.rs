//! Schedules against ComfyUI 0.3.64: `tests/golden/schedules.safetensors`.

mod support;

use noisefork::sampling::{Betas, KSampler, Levels, ModelSampling, Prediction, Scheduler};
use noisefork::tensor::Tensor;
use support::compare::assert_close;
use support::golden::{Case, Golden};

const RELATIVE_TOLERANCE: f64 = 1e-5;

const MODELS: [&str; 7] =
    ["eps", "v_zsnr", "edm", "flow_shift1", "flow_shift3", "eps_cosine", "eps_sd1_edges"];

fn model(name: &str) -> ModelSampling {
    let betas = Betas::STABLE_DIFFUSION;
    match name {
        "eps" => ModelSampling::eps(betas),
        "v_zsnr" => ModelSampling::new(Prediction::V, Levels::Discrete { betas, zero_terminal_snr: true }),
        "edm" => {
            let levels = Levels::ContinuousEdm { sigma_min: 0.002, sigma_max: 80.0 };
            ModelSampling::new(Prediction::Edm, levels).and_then(|model| model.with_sigma_data(0.5))
        }
        "flow_shift1" => ModelSampling::flow(1.0),
        "flow_shift3" => ModelSampling::flow(3.0),
        "eps_cosine" => ModelSampling::eps(Betas::Cosine),
        "eps_sd1_edges" => ModelSampling::eps(Betas::ScaledLinear { start: 0.001, end: 0.02 }),
        _ => panic!("no model {name}"),
    }
    .unwrap()
}

fn assert_levels(what: &str, got: &[f32], want: &Tensor) {
    assert_eq!(got.len(), want.data().len(), "{what}: {got:?} against {:?}", want.data());
    for (index, (got, want)) in got.iter().zip(want.data()).enumerate() {
        assert_close(
            &format!("{what} [{index}]"),
            &[*got],
            &[*want],
            RELATIVE_TOLERANCE * f64::from(want.abs()),
        );
    }
}

fn describe(case: &Case) -> String {
    format!("{} {} {}", case.str("model"), case.str("scheduler"), case.usize("steps"))
}

#[test]
fn every_schedule_of_every_model() {
    let golden = Golden::open("schedules");
    let (mut ran, mut exact) = (0, 0);
    for case in golden.cases().iter().filter(|case| !case.has("kind")) {
        let model = model(case.str("model"));
        let scheduler: Scheduler = case.str("scheduler").parse().unwrap();
        let sigmas = scheduler.sigmas(&model, case.usize("steps")).unwrap();
        ran += 1;
        if case.has("nonfinite") {
            // The reference divides 0 by 0 here; from the top to 0 is the right answer.
            assert_eq!(sigmas, [model.sigma_max(), 0.0], "{}", describe(case));
            continue;
        }
        let want = case.tensor("sigmas");
        assert_levels(&describe(case), &sigmas, &want);
        exact += usize::from(sigmas == want.data());
    }
    println!("schedules: {ran} cases, {exact} of them bit for bit");
    assert_eq!(ran, 693);
}

#[test]
fn the_window_of_a_ksampler() {
    let golden = Golden::open("schedules");
    let (mut ran, mut left) = (0, 0);
    for case in golden.cases_of("ksampler") {
        let Ok(sampler) = case.str("sampler").parse() else {
            left += 1;
            continue;
        };
        let scheduler = case.str("scheduler").parse().unwrap();
        let whole = KSampler::new(0, case.usize("steps"), 1.0, sampler, scheduler);
        let run = KSampler { denoise: case.f64("denoise"), ..whole };
        let plan = run.plan(&model(case.str("model"))).unwrap().unwrap();
        assert_levels(&case.to_string(), &plan.sigmas, &case.tensor("sigmas"));
        ran += 1;
    }
    println!("schedules: {ran} windows of a k-sampler, {left} of samplers that are not known yet");
    assert_eq!(ran + left, 18);
}

#[test]
fn the_table_of_every_model() {
    let golden = Golden::open("schedules");
    for name in MODELS {
        let want = golden.tensor(&format!("sigmas_table/{name}"));
        assert_levels(name, model(name).sigmas(), &want);
    }
    println!("schedules: {} tables", MODELS.len());
}
