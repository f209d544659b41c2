//! Levels: what models, schedules and sigma tools owe whatever the reference says, and numbers that it does not hold.

use noisefork::error::{Error, Result};
use noisefork::sampling::schedules::tools::{
    Spacing, extend_intermediate, flip, set_first, split, split_denoise,
};
use noisefork::sampling::schedules::{
    AlignYourSteps, Beta, Exponential, Gits, Karras, Laplace, ModelType, Polyexponential, SdTurbo, Vp,
};
use noisefork::sampling::{Betas, Levels, ModelSampling, Prediction, Scheduler};
use proptest::prelude::*;
use serde_json::json;

const BETAS: Betas = Betas::STABLE_DIFFUSION;

fn eps() -> ModelSampling {
    ModelSampling::eps(BETAS).unwrap()
}

/// One of each: name, model.
fn models() -> Vec<(&'static str, ModelSampling)> {
    let new = |prediction, levels| ModelSampling::new(prediction, levels).unwrap();
    let zsnr = |betas| Levels::Discrete { betas, zero_terminal_snr: true };
    let linear = Betas::Linear { start: 1e-4, end: 0.02 };
    let continuous_v = Levels::ContinuousV { sigma_min: 0.03, sigma_max: 500.0 };
    vec![
        ("eps", eps()),
        ("eps cosine", ModelSampling::eps(Betas::Cosine).unwrap()),
        ("x0 linear", new(Prediction::X0, Levels::Discrete { betas: linear, zero_terminal_snr: false })),
        ("v zsnr", new(Prediction::V, zsnr(BETAS))),
        ("v zsnr cosine", new(Prediction::V, zsnr(Betas::Cosine))),
        ("edm", new(Prediction::Edm, Levels::ContinuousEdm { sigma_min: 0.002, sigma_max: 80.0 })),
        ("continuous v", new(Prediction::V, continuous_v)),
        ("flow 1", ModelSampling::flow(1.0).unwrap()),
        ("flow 1.15", ModelSampling::flow(1.15).unwrap()),
        ("flow 2.7", ModelSampling::flow(2.7).unwrap()),
        ("flow 12", ModelSampling::flow(12.0).unwrap()),
    ]
}

fn close(got: f64, want: f64, tolerance: f64) -> bool {
    (got - want).abs() <= tolerance * want.abs()
}

#[track_caller]
fn assert_sigmas(scheduler: impl Into<Scheduler>, model: &ModelSampling, want: &[f64]) {
    let scheduler = scheduler.into();
    let got = scheduler.sigmas(model, want.len() - 1).unwrap();
    let all_close = got.iter().zip(want).all(|(&got, &want)| close(got.into(), want, 2e-6));
    assert!(got.len() == want.len() && all_close, "{scheduler}: {got:?}, want {want:?}");
}

/// For levels that are looked up, not computed.
#[track_caller]
fn assert_table(scheduler: impl Into<Scheduler>, want: &[f64]) {
    let want: Vec<f32> = want.iter().map(|&want| want as f32).collect();
    assert_eq!(scheduler.into().sigmas(&eps(), want.len() - 1).unwrap(), want);
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T>, argument: &str) {
    match result {
        Err(Error::Value { what, .. }) if what == argument => {}
        other => panic!("{argument} should be refused: {other:?}"),
    }
}

/// Whether a schedule has nothing to say to a model at a number of steps.
fn has_no_levels(scheduler: &str, model: &ModelSampling, steps: usize) -> bool {
    let flow = model.prediction() == Prediction::Flow;
    match scheduler {
        "sd_turbo" => steps > 10 || model.timestep(model.sigma_max()) < 999.0,
        "laplace" => steps == 1,
        "vp" | "align_your_steps" | "gits" => flow,
        _ => false,
    }
}

fn assert_owed(name: &str, model_name: &str, model: &ModelSampling, steps: usize) {
    let scheduler: Scheduler = name.parse().unwrap();
    let what = format!("{name} {model_name} {steps}");
    let sigmas = scheduler.sigmas(model, steps);
    if has_no_levels(name, model, steps) {
        assert!(matches!(sigmas, Err(Error::Value { .. })), "{what}: {sigmas:?}");
        return;
    }
    let sigmas = sigmas.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(sigmas.iter().all(|sigma| sigma.is_finite()), "{what}: {sigmas:?}");
    assert!(sigmas.windows(2).all(|pair| pair[0] > pair[1]), "{what}: {sigmas:?}");
    assert_eq!(sigmas[sigmas.len() - 1] == 0.0, name != "laplace", "{what}");
    match name {
        "ddim_uniform" => {}
        "beta" | "beta57" => assert!((2..=steps + 1).contains(&sigmas.len()), "{what}: {}", sigmas.len()),
        "laplace" => assert!((2..=steps).contains(&sigmas.len()), "{what}: {}", sigmas.len()),
        _ => assert_eq!(sigmas.len(), steps + 1, "{what}"),
    }
    if !["vp", "align_your_steps", "gits", "bong_tangent"].contains(&name) {
        // The tangent of nearly a right angle keeps only half of an f32's digits, the reference's too.
        let rounding = if name == "kl_optimal" { 1e-3 } else { 1e-5 };
        assert!(sigmas[0] <= model.sigma_max() * (1.0 + rounding), "{what}: {} is too high", sigmas[0]);
    }
}

#[test]
fn every_schedule_of_every_model_falls() {
    let counts = (1..=40).chain([99, 100, 333, 430, 500, 501, 640, 777, 998, 999, 1000]);
    for steps in counts {
        for (model_name, model) in &models() {
            Scheduler::names().for_each(|name| assert_owed(name, model_name, model, steps));
        }
    }
}

proptest! {
    #[test]
    fn any_schedule_of_any_model_falls(
        scheduler in proptest::sample::select(Scheduler::names().collect::<Vec<_>>()),
        model in proptest::sample::select(models()),
        steps in 1usize..=1000,
    ) {
        assert_owed(scheduler, model.0, &model.1, steps);
    }

    #[test]
    fn sigma_of_timestep_is_the_level(model in proptest::sample::select(models()), place in 0.0f32..=1.0) {
        let model = model.1;
        let row = (place * (model.sigmas().len() - 1) as f32) as usize;
        let sigma = model.sigmas()[row];
        let back = model.sigma(model.timestep(sigma));
        if model.prediction() == Prediction::Flow {
            // A flow is told its level itself, the shift being in the levels: the clock shifts once more.
            prop_assert_eq!(model.timestep(sigma), sigma * 1000.0);
            prop_assert!(back <= 1.0);
        } else {
            prop_assert!(close(back.into(), sigma.into(), 2e-4), "{} became {}", sigma, back);
        }
    }

    #[test]
    fn percent_falls_to_zero(model in proptest::sample::select(models()), a in -0.5f64..1.5, b in -0.5f64..1.5) {
        let model = model.1;
        let (early, late) = (model.percent_to_sigma(a.min(b)), model.percent_to_sigma(a.max(b)));
        prop_assert!(early >= late && late >= 0.0, "{} before {}", early, late);
    }

    #[test]
    fn no_option_makes_nonsense(
        numbers in proptest::collection::vec(proptest::sample::select(HOSTILE), 3),
        place in 0usize..7,
        model in proptest::sample::select(models()),
        steps in proptest::sample::select(&[0, 1, 2, 3, 10, 97, 1000, 10_000, 10_001, usize::MAX][..]),
    ) {
        let [a, b, c] = numbers[..] else { unreachable!() };
        let schedules: [Scheduler; 7] = [
            Karras { sigma_min: Some(a), sigma_max: Some(b), rho: c }.into(),
            Polyexponential { sigma_min: None, sigma_max: Some(b), rho: c }.into(),
            Laplace { sigma_min: Some(0.01), sigma_max: None, mu: a, beta: b }.into(),
            Vp { beta_d: a, beta_min: b, eps_s: c }.into(),
            Beta { alpha: a, beta: b }.into(),
            SdTurbo { denoise: a }.into(),
            Gits { coeff: a }.into(),
        ];
        for scheduler in [schedules[place], Exponential { sigma_min: Some(a), sigma_max: Some(b) }.into()] {
            if let Ok(sigmas) = scheduler.sigmas(&model.1, steps) {
                prop_assert!(sigmas.len() <= steps.max(1000) + 1);
                prop_assert!(sigmas.iter().all(|sigma| sigma.is_finite() && *sigma >= 0.0));
                prop_assert!(sigmas.windows(2).all(|pair| pair[0] > pair[1]), "{:?} {:?}", scheduler, sigmas);
            }
        }
    }

    #[test]
    fn no_level_makes_a_model_of_nonsense(a in proptest::sample::select(HOSTILE), b in proptest::sample::select(HOSTILE)) {
        let betas = [Betas::ScaledLinear { start: a, end: b }, Betas::Linear { start: a, end: b }];
        let discrete = |zero_terminal_snr| betas.map(|betas| Levels::Discrete { betas, zero_terminal_snr });
        let continuous = [
            Levels::ContinuousEdm { sigma_min: a, sigma_max: b },
            Levels::ContinuousV { sigma_min: a, sigma_max: b },
            Levels::DiscreteFlow { shift: a as f32 },
        ];
        for levels in discrete(false).into_iter().chain(discrete(true)).chain(continuous) {
            for prediction in [Prediction::Eps, Prediction::Flow] {
                let Ok(model) = ModelSampling::new(prediction, levels) else { continue };
                prop_assert!(model.sigma_min() > 0.0 && model.sigma_max().is_finite());
                prop_assert!(model.sigmas().windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(prediction != Prediction::Flow || model.sigma_max() <= 1.0);
            }
        }
    }
}

const HOSTILE: &[f64] = &[
    0.0,
    -0.0,
    -1.0,
    1.0,
    0.5,
    0.05,
    0.8,
    1.2,
    1.21,
    7.0,
    49.9,
    100.0,
    1e4,
    1e-8,
    1e-300,
    1e300,
    f64::MAX,
    f64::MIN_POSITIVE,
    f64::EPSILON,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

#[test]
fn what_a_network_says_becomes_the_latent() {
    // At level 3 of data of deviation 0.5, with latent 2 and noise -1.
    let (sigma, data, latent, noise) = (3.0, 0.5, 2.0, -1.0);
    let x = latent + sigma * noise;
    let total = f64::hypot(sigma, data);
    let velocity = (x * data / total - latent * total / data) / sigma;
    for (prediction, output) in [
        (Prediction::Eps, noise),
        (Prediction::V, velocity),
        (Prediction::Edm, -velocity),
        (Prediction::X0, latent),
    ] {
        let levels = Levels::ContinuousEdm { sigma_min: 0.002, sigma_max: 80.0 };
        let model = ModelSampling::new(prediction, levels).unwrap().with_sigma_data(data).unwrap();
        let (of_x, of_output) = model.denoised_coefficients(sigma);
        assert!(close(of_x * x + of_output * output, latent, 1e-12), "{prediction:?}");
        assert!(close(model.input_scale(sigma), 1.0 / total, 1e-15));
    }
    let flow = ModelSampling::flow(1.0).unwrap();
    let (of_noise, of_latent) = flow.noise_scaling(0.25);
    let x = of_noise * noise + of_latent * latent;
    let (of_x, of_output) = flow.denoised_coefficients(0.25);
    assert!(close(of_x * x + of_output * (noise - latent), latent, 1e-12));
}

#[test]
fn models_that_cannot_be() {
    let edm = Levels::ContinuousEdm { sigma_min: 0.002, sigma_max: 80.0 };
    assert_refused(ModelSampling::new(Prediction::Flow, edm), "levels of a flow");
    for deviation in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_refused(eps().with_sigma_data(deviation), "sigma_data");
    }
    assert_refused(ModelSampling::eps(Betas::Linear { start: 0.5, end: 1.0 }), "betas");
    assert_refused(ModelSampling::eps(Betas::Linear { start: 1e-300, end: 1e-300 }), "levels");
    assert_refused(ModelSampling::flow(1e30), "levels");
}

#[test]
fn a_table_with_zero_terminal_snr_ends_in_noise() {
    let levels = Levels::Discrete { betas: BETAS, zero_terminal_snr: true };
    let model = ModelSampling::new(Prediction::V, levels).unwrap();
    assert!(close(model.sigma_max().into(), 4518.7637, 1e-6), "{}", model.sigma_max());
    assert!(close(model.sigma_min().into(), eps().sigma_min().into(), 1e-6), "{}", model.sigma_min());
}

#[test]
fn schedules_under_options() {
    let model = eps();
    let karras = Karras { sigma_min: Some(0.1), sigma_max: Some(10.0), rho: 3.0 };
    assert_sigmas(karras, &model, &[10.0, 4.027339, 1.085056, 0.1, 0.0]);
    let exponential = Exponential { sigma_min: Some(0.01), sigma_max: Some(100.0) };
    assert_sigmas(exponential, &model, &[100.0, 10.0, 1.0, 0.1, 0.01, 0.0]);
    let polyexponential = Polyexponential { rho: 2.0, ..Default::default() };
    assert_sigmas(polyexponential, &model, &[14.61464, 0.9629075, 0.1379964, 0.04301675, 0.02916716, 0.0]);
    assert_sigmas(Vp::default(), &model, &[152.167, 17.04912, 3.422245, 0.9575265, 0.01048599, 0.0]);
    let want = [1.0, 0.8572326, 0.5, 0.1174606, 0.0];
    assert_sigmas(Scheduler::BongTangent, &ModelSampling::flow(3.0).unwrap(), &want);
    let want = [1.0, 0.96994, 0.9261784, 0.857347, 0.7369901, 0.5, 0.2463918, 0.1093778, 0.03979438, 0.0];
    assert_sigmas(Scheduler::BongTangent, &model, &want);
    let laplace = Laplace { mu: 0.5, beta: 1.0, ..Default::default() };
    let sigmas = Scheduler::from(laplace).sigmas(&model, 6).unwrap();
    for (got, want) in sigmas.iter().zip([14.61464, 4.1217, 2.060876, 1.318993, 0.659505, 0.02916716]) {
        assert!(close((*got).into(), want, 2e-6), "{sigmas:?}");
    }
}

#[test]
fn rows_of_a_beta_distribution() {
    let model = eps();
    let rows = |beta: Beta, steps| -> Vec<usize> {
        let sigmas = Scheduler::from(beta).sigmas(&model, steps).unwrap();
        let row = |sigma: &f32| model.sigmas().iter().position(|level| level == sigma).unwrap();
        sigmas[..sigmas.len() - 1].iter().map(row).collect()
    };
    // From scipy.stats.beta.ppf; beta57 is alpha 0.5, beta 0.7.
    assert_eq!(rows(Beta { alpha: 0.5, beta: 0.7 }, 9), [999, 905, 758, 596, 436, 290, 168, 76, 19]);
    assert_eq!(rows(Beta { alpha: 1.0, beta: 1.0 }, 4), [999, 749, 500, 250]);
    let beta57 = Scheduler::Beta57.sigmas(&model, 9).unwrap();
    assert_eq!(beta57, Scheduler::from(Beta { alpha: 0.5, beta: 0.7 }).sigmas(&model, 9).unwrap());
}

#[test]
fn align_your_steps_at_its_own_and_other_steps() {
    let model = eps();
    let of = |model_type| AlignYourSteps { model_type };
    let sd1 = [
        14.6146412293,
        6.4745760956,
        3.8636745985,
        2.694615152,
        1.8841921177,
        1.3943805092,
        0.9642583904,
        0.6523686016,
        0.3977456272,
        0.1515232662,
        0.0,
    ];
    assert_table(of(ModelType::Sd1), &sd1);
    let sdxl = [
        14.6146412293,
        6.3184485287,
        3.7681790315,
        2.1811480769,
        1.3405244945,
        0.8620721141,
        0.5550693289,
        0.3798540708,
        0.2332364134,
        0.1114188177,
        0.0,
    ];
    assert_table(of(ModelType::Sdxl), &sdxl);
    let svd = [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.0];
    assert_table(of(ModelType::Svd), &svd);
    let seven = [14.61464, 5.189446, 2.836968, 1.7289, 1.071424, 0.6078478, 0.229142, 0.0];
    assert_sigmas(of(ModelType::Sd1), &model, &seven);
    assert_sigmas(of(ModelType::Svd), &model, &[700.0, 11.25711, 1.789, 0.2640436, 0.0]);
    let options = json!({"model_type": "SDXL"});
    let named = Scheduler::with_options("align_your_steps", options.as_object().unwrap()).unwrap();
    assert_eq!(named, of(ModelType::Sdxl).into());
}

#[test]
fn gits_at_its_own_and_other_steps() {
    let model = eps();
    let gits = |coeff| Gits { coeff };
    assert_table(gits(0.8), &[14.61464119, 7.49001646, 0.0]);
    assert_table(gits(0.8), &[14.61464119, 11.54541874, 7.49001646, 3.07277966, 0.0]);
    let most = [
        14.61464119,
        2.45070267,
        1.41535246,
        0.95350921,
        0.72133851,
        0.57119018,
        0.4783645,
        0.43325692,
        0.38853383,
        0.36617002,
        0.34370604,
        0.32104823,
        0.29807833,
        0.27464288,
        0.25053367,
        0.22545385,
        0.19894916,
        0.17026083,
        0.13792117,
        0.09824532,
        0.0,
    ];
    assert_table(gits(1.5), &most);
    let resampled = [
        14.61464, 8.561381, 5.630276, 3.942295, 2.874122, 2.199885, 1.718475, 1.379451, 1.117133, 0.90834,
        0.7480705, 0.6230134, 0.5368496, 0.4628943, 0.3964649, 0.343706, 0.3066915, 0.2685665, 0.2401833,
        0.2198845, 0.1989492, 0.1756468, 0.150046, 0.1204213, 0.07706008, 0.0,
    ];
    assert_sigmas(Gits::default(), &model, &resampled);
    for choice in 0..15 {
        let gits = Scheduler::from(gits(0.80 + 0.05 * f64::from(choice)));
        for steps in 1..=40 {
            let sigmas = gits.sigmas(&model, steps).unwrap();
            assert_eq!((sigmas.len(), sigmas[0], sigmas[steps]), (steps + 1, 14.614_641_f32, 0.0));
        }
    }
    for coeff in [0.75, 0.82, 1.55, -0.8, f64::NAN] {
        assert_refused(Scheduler::from(gits(coeff)).sigmas(&model, 10), "coeff");
    }
}

#[test]
fn sd_turbo_visits_the_timesteps_it_was_distilled_for() {
    let model = eps();
    let turbo = |denoise, steps| Scheduler::from(SdTurbo { denoise }).sigmas(&model, steps);
    let levels =
        |timesteps: &[f32]| -> Vec<f32> { timesteps.iter().map(|&t| model.sigma(t)).chain([0.0]).collect() };
    assert_eq!(turbo(1.0, 1).unwrap(), levels(&[999.0]));
    assert_eq!(turbo(1.0, 3).unwrap(), levels(&[999.0, 899.0, 799.0]));
    assert_eq!(turbo(0.5, 2).unwrap(), levels(&[499.0, 399.0]));
    assert_eq!(turbo(0.25, 9).unwrap(), levels(&[199.0, 99.0]));
    assert_refused(turbo(1.0, 11), "steps");
    assert_refused(turbo(0.09, 1), "denoise");
    let edm = Levels::ContinuousEdm { sigma_min: 0.002, sigma_max: 80.0 };
    let edm = ModelSampling::new(Prediction::Edm, edm).unwrap();
    assert_refused(Scheduler::from(SdTurbo::default()).sigmas(&edm, 1), "the model's last timestep");
}

#[test]
fn schedules_that_cannot_be() {
    let model = eps();
    assert_refused(Scheduler::Simple.sigmas(&model, 0), "steps");
    assert_refused(Scheduler::Simple.sigmas(&model, 1001), "sigmas");
    assert_refused(Scheduler::Simple.sigmas(&model, Scheduler::MAX_STEPS + 1), "steps");
    assert_refused(Scheduler::from(Gits::default()).sigmas(&ModelSampling::flow(3.0).unwrap(), 10), "sigmas");
    let with =
        |name: &str, options: serde_json::Value| Scheduler::with_options(name, options.as_object().unwrap());
    assert_refused(with("karras", json!({"ro": 7.0})), "options");
    assert_refused(with("karras", json!({"rho": "seven"})), "options");
    assert_refused(with("simple", json!({"rho": 7.0})), "options");
    assert!(matches!(with("karas", json!({})), Err(Error::UnknownName { .. })));
    assert_eq!(with("simple", json!({})).unwrap(), Scheduler::Simple);
    assert_eq!(with("karras", json!({"rho": 5})).unwrap(), Karras { rho: 5.0, ..Default::default() }.into());
    let bounds = Karras { sigma_min: Some(2.0), sigma_max: Some(1.0), rho: 7.0 };
    assert_refused(Scheduler::from(bounds).sigmas(&model, 5), "sigma_min and sigma_max");
}

#[test]
fn cutting_and_turning_levels() {
    let sigmas = [8.0, 4.0, 2.0, 1.0, 0.0];
    assert_eq!(split(&sigmas, 1).unwrap(), (&sigmas[..2], &sigmas[1..]));
    assert_eq!(split(&sigmas, 4).unwrap(), (&sigmas[..], &sigmas[4..]));
    assert_refused(split(&sigmas, 5), "step");
    assert_refused(split(&[], 0), "step");
    assert_eq!(split_denoise(&sigmas, 0.5).unwrap(), split(&sigmas, 2).unwrap());
    // 2.5 and 3.5 of 5 steps are 2 and 4, as Python rounds them.
    let six = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0];
    assert_eq!(split_denoise(&six, 0.5).unwrap(), split(&six, 3).unwrap());
    assert_eq!(split_denoise(&six, 0.7).unwrap(), split(&six, 1).unwrap());
    assert_eq!(split_denoise(&sigmas, 0.0).unwrap(), split(&sigmas, 4).unwrap());
    assert_eq!(split_denoise(&sigmas, 1.0).unwrap(), split(&sigmas, 0).unwrap());
    assert_refused(split_denoise(&sigmas, f64::NAN), "denoise");
    assert_eq!(flip(&sigmas), [0.0001, 1.0, 2.0, 4.0, 8.0]);
    assert_eq!(flip(&[1.0, 2.0]), [2.0, 1.0]);
    assert_eq!(flip(&[]), [0.0; 0]);
    assert_eq!(set_first(&sigmas, 9.0).unwrap(), [9.0, 4.0, 2.0, 1.0, 0.0]);
    assert_refused(set_first(&[], 9.0), "sigmas");
    for sigma in [f32::NAN, f32::INFINITY, -1.0] {
        assert_refused(set_first(&sigmas, sigma), "sigma");
    }
}

#[test]
fn filling_levels() {
    let sigmas = [16.0, 8.0, 4.0, 0.0];
    let fill = |steps, within, spacing| extend_intermediate(&sigmas, steps, within, spacing);
    assert_eq!(fill(1, 0.0..=99.0, Spacing::Linear).unwrap(), sigmas);
    let high = fill(2, 12.0..=f32::INFINITY, Spacing::Linear).unwrap();
    assert_eq!(high, [16.0, 12.0, 8.0, 4.0, 0.0]);
    assert_eq!(
        fill(4, 4.0..=8.0, Spacing::Linear).unwrap(),
        [16.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    );
    let near = |got: Vec<f32>, want: f64| assert!(close(got[1].into(), want, 1e-6), "{got:?}");
    near(fill(2, 12.0..=16.0, Spacing::Cosine).unwrap(), 16.0 - 8.0 * 0.5f64.sqrt());
    near(fill(2, 12.0..=16.0, Spacing::Sine).unwrap(), 8.0 + 8.0 * 0.5f64.sqrt());
    for steps in [0, 101, usize::MAX] {
        assert_refused(fill(steps, 0.0..=1.0, Spacing::Linear), "steps");
    }
    assert_eq!(extend_intermediate(&[], 3, 0.0..=1.0, Spacing::Linear).unwrap(), [0.0; 0]);
}
