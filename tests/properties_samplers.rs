//! What samplers owe whatever the reference does: their order of convergence, the distribution of what they make, and
//! that no schedule of any length leads to NaN.

use std::ops::ControlFlow;

use noisefork::error::{Error, Result};
use noisefork::reference::Reference;
use noisefork::rng::{BrownianNoise, Mt19937};
use noisefork::sampling::program::{Instruction, Program};
use noisefork::sampling::samplers::NoiseKind;
use noisefork::sampling::{
    Betas, Branch, Denoiser, KSampler, Model, ModelSampling, NoiseSource, Prediction, Progress, Run, Sampler,
    Scheduler,
};
use noisefork::tensor::Tensor;
use serde_json::{Value, json};

type Cpu = Reference<f32>;

const MEAN: f64 = 0.4;
const DEVIATION: f64 = 0.5;

/// The expected latent behind `x = alpha latent + sigma noise`, for latents that are normally distributed.
fn posterior_mean(x: f64, alpha: f64, sigma: f64) -> f64 {
    let variance = DEVIATION * DEVIATION;
    MEAN + alpha * variance * (x - alpha * MEAN) / (alpha * alpha * variance + sigma * sigma)
}

/// Where the probability-flow ODE of these latents leads from `x` at level `from`.
fn exact(x: f64, from: f64, to: f64) -> f64 {
    let spread = |sigma: f64| sigma.hypot(DEVIATION);
    MEAN + (x - MEAN) * spread(to) / spread(from)
}

fn sampler(name: &str, options: Value) -> Result<Sampler> {
    Sampler::with_options(name, options.as_object().unwrap())
}

/// Runs a program on one number, in f64, with the noise that `draw` gives.
fn run(mut program: Program, start: f64, mut draw: impl FnMut() -> f64) -> f64 {
    let mut slots = vec![start];
    let mut error = f64::NAN;
    loop {
        slots.resize(slots.len().max(program.slots()), f64::NAN);
        for instruction in program.steps().iter().flat_map(|step| &step.instructions) {
            match *instruction {
                Instruction::Denoise { x, sigma, out, negative } => {
                    let denoised = posterior_mean(slots[x.0], 1.0, sigma);
                    slots[out.0] = denoised;
                    negative.into_iter().for_each(|negative| slots[negative.0] = denoised);
                }
                Instruction::Combine { ref terms, out } => {
                    slots[out.0] = terms.iter().map(|&(coefficient, slot)| coefficient * slots[slot.0]).sum();
                }
                Instruction::Measure { low, high, previous, rtol, atol } => {
                    let tolerated = (rtol * slots[low.0].abs().max(slots[previous.0].abs())).max(atol);
                    error = ((slots[low.0] - slots[high.0]) / tolerated).abs();
                }
                Instruction::Noise { out, .. } => slots[out.0] = draw(),
                ref other => panic!("{other:?}"),
            }
        }
        match program.next(error).unwrap() {
            Some(next) => program = next,
            None => return slots[program.result().0],
        }
    }
}

fn scheduler() -> Scheduler {
    "karras".parse().unwrap()
}

/// Levels of a run that ends above 0, where every sampler's last step is Euler's.
fn karras(model: &ModelSampling, steps: usize) -> Vec<f32> {
    let mut sigmas = scheduler().sigmas(model, steps).unwrap();
    sigmas.truncate(steps);
    sigmas
}

fn error(sampler: &Sampler, steps: usize) -> f64 {
    let model = eps();
    let sigmas = karras(&model, steps);
    let (from, to) = (f64::from(sigmas[0]), f64::from(sigmas[steps - 1]));
    let start = MEAN + 1.3 * from;
    let unwanted = || panic!("{sampler} draws noise");
    (run(sampler.program(&model, &sigmas).unwrap(), start, unwanted) - exact(start, from, to)).abs()
}

/// By which part the standard deviation of what a stochastic sampler makes is off, exactly: a run is linear in its start
/// and its noise, so that one run with each of them alone tells.
fn deviation_error(sampler: &Sampler, steps: usize) -> f64 {
    let model = eps();
    let sigmas = karras(&model, steps);
    let (from, to) = (f64::from(sigmas[0]), f64::from(sigmas[steps - 1]));
    let program = sampler.program(&model, &sigmas).unwrap();
    let alone = |start: f64, which: usize| {
        let mut drawn = 0;
        let draw = || {
            drawn += 1;
            f64::from(u8::from(drawn == which))
        };
        run(program.clone(), start, draw) - MEAN
    };
    let draws = program.steps().iter().flat_map(|step| &step.instructions);
    let draws = draws.filter(|instruction| matches!(instruction, Instruction::Noise { .. })).count();
    let of_start = alone(MEAN + from.hypot(DEVIATION), 0).powi(2);
    let variance = of_start + (1..=draws).map(|which| alone(MEAN, which).powi(2)).sum::<f64>();
    (variance.sqrt() / to.hypot(DEVIATION) - 1.0).abs()
}

fn eps() -> ModelSampling {
    ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap()
}

/// The slope of log error against log steps, by least squares.
fn slope(steps: [usize; 5], error: impl Fn(usize) -> f64) -> f64 {
    let points = steps.map(|steps| ((steps as f64).ln(), -error(steps).ln()));
    let mean = |f: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    mean(&|p| (p.0 - x) * (p.1 - y)) / mean(&|p| (p.0 - x).powi(2))
}

#[test]
fn orders_of_convergence() {
    let without_noise = |name: &str| match name {
        // Always stochastic, or of as many steps as it likes.
        "ddpm" | "lcm" | "er_sde" | "dpm_adaptive" => None,
        _ => Some(sampler(name, json!({"eta": 0})).unwrap_or_else(|_| name.parse().unwrap())),
    };
    let named = Sampler::names().filter_map(without_noise);
    let with_options = [
        ("lms", json!({"order": 1})),
        ("lms", json!({"order": 2})),
        ("lms", json!({"order": 3})),
        ("ipndm", json!({"max_order": 1})),
        ("ipndm_v", json!({"max_order": 3})),
        ("deis", json!({"max_order": 2})),
        ("deis", json!({"deis_mode": "rhoab"})),
        ("dpmpp_sde", json!({"eta": 0, "r": 0.3})),
        ("seeds_2", json!({"eta": 0, "r": 0.3})),
        ("seeds_3", json!({"eta": 0, "r_1": 0.2, "r_2": 0.9})),
        ("exp_heun_2_x0", json!({"solver_type": "phi_1"})),
        ("sa_solver", json!({"eta": 0, "corrector_order": 0})),
    ];
    let with_options = with_options.map(|(name, options)| sampler(name, options).unwrap());
    let mut count = 0;
    for sampler in named.chain(with_options) {
        // One more than a multiple of 3, so that dpm_fast ends its runs alike.
        assert_order(&sampler, slope([64, 97, 145, 217, 325], |steps| error(&sampler, steps)));
        count += 1;
    }
    assert_eq!(count, Sampler::names().count() - 4 + 12);
}

fn assert_order(sampler: &Sampler, measured: f64) {
    let stated = f64::from(sampler.properties().order);
    println!("{sampler:?}: order {stated}, measured {measured:.2}");
    assert!((stated - 0.3..stated + 0.8).contains(&measured), "{sampler:?}: {stated}, measured {measured}");
}

#[test]
fn orders_of_what_is_always_stochastic() {
    let ddpm = sampler("ddpm", json!({}));
    let er_sde = [1, 2, 3].map(|stage| sampler("er_sde", json!({ "max_stage": stage })));
    for sampler in [ddpm].into_iter().chain(er_sde) {
        let sampler = sampler.unwrap();
        assert_order(&sampler, slope([20, 30, 45, 68, 100], |steps| deviation_error(&sampler, steps)));
    }
}

#[test]
fn the_adaptive_solver_meets_its_tolerances() {
    for order in [2, 3] {
        for tolerance in [1e-2, 1e-3, 1e-4, 1e-5] {
            let options = json!({"order": order, "rtol": tolerance, "atol": tolerance});
            let error = error(&sampler("dpm_adaptive", options).unwrap(), 10);
            println!("dpm_adaptive: order {order}, tolerance {tolerance:e}, error {error:.1e}");
            assert!(error < 10.0 * tolerance, "order {order}, tolerance {tolerance}: {error}");
        }
    }
}

#[test]
fn the_adaptive_solver_gives_up() {
    let refused = |options: Value, denoised: f32| {
        let denoiser = move |_: &Tensor, _, _, out: &mut Tensor| {
            out.data_mut().fill(denoised);
            Ok(())
        };
        let ksampler = KSampler::new(1, 10, 1.0, sampler("dpm_adaptive", options).unwrap(), scheduler());
        sample(&ksampler, eps(), denoiser, [1, 1, 2, 2]).unwrap_err()
    };
    let never = refused(json!({"accept_safety": 3.0}), 0.5);
    assert!(matches!(never, Error::Value { what: "steps tried", .. }), "{never}");
    let nan = refused(json!({}), f32::NAN);
    assert!(matches!(nan, Error::NotFinite { op: "dpm_adaptive", .. }), "{nan}");
}

/// A run from zeros on the reference backend.
fn sample(
    ksampler: &KSampler,
    sampling: ModelSampling,
    denoiser: impl Denoiser<Cpu>,
    shape: [usize; 4],
) -> Result<Tensor> {
    let backend = Cpu::new();
    let mut model = Model { backend: &backend, denoiser, sampling, latent_scale: 1.0 };
    let mut proceed = |_: &Progress<'_, Cpu>| ControlFlow::Continue(());
    ksampler.sample(&mut model, &Tensor::zeros(shape), &mut proceed)
}

/// A model whose answer depends on each element alone.
fn elementwise(f: impl Fn(f64, f64) -> f64) -> impl FnMut(&Tensor, f64, Branch, &mut Tensor) -> Result<()> {
    move |x, sigma, _, out| {
        for (out, &x) in out.data_mut().iter_mut().zip(x.data()) {
            *out = f(f64::from(x), sigma) as f32;
        }
        Ok(())
    }
}

/// Noise for a run along `sigmas`, of another seed than its start.
fn source(kind: NoiseKind, sigmas: &[f32], elements: usize) -> Box<dyn NoiseSource> {
    const SEED: u64 = 12;
    match kind {
        NoiseKind::Brownian => {
            let lowest = sigmas[sigmas.len() - 2];
            Box::new(BrownianNoise::new(SEED, elements, lowest, sigmas[0]).unwrap())
        }
        _ => Box::new(Mt19937::new(SEED)),
    }
}

#[test]
fn stochastic_samplers_keep_mean_and_variance() {
    const ELEMENTS: usize = 65536;
    const STEPS: usize = 40;
    let standard_error = DEVIATION / (ELEMENTS as f64).sqrt();
    let backend = Cpu::new();
    let mut samplers = 0;
    for sampler in Sampler::names().map(|name| name.parse::<Sampler>().unwrap()) {
        let properties = sampler.properties();
        if properties.noise == NoiseKind::None || properties.order == 0 {
            continue;
        }
        samplers += 1;
        for sampling in [eps(), ModelSampling::flow(3.0).unwrap()] {
            let flow = sampling.prediction() == Prediction::Flow;
            if flow && !properties.flow {
                continue;
            }
            let alpha = move |sigma: f64| if flow { 1.0 - sigma } else { 1.0 };
            // A consistency model knows where the ODE ends; any other, what to expect.
            let consistency = sampler.name() == "lcm";
            let mut denoiser = elementwise(move |x, sigma| {
                let alpha = alpha(sigma);
                if consistency {
                    MEAN + (x - alpha * MEAN) * DEVIATION / sigma.hypot(alpha * DEVIATION)
                } else {
                    posterior_mean(x, alpha, sigma)
                }
            });
            let sigmas = scheduler().sigmas(&sampling, STEPS).unwrap();
            let program = sampler.program(&sampling, &sigmas).unwrap();
            let top = f64::from(sigmas[0]);
            let mut start = Tensor::zeros([1, 4, 128, 128]);
            Mt19937::new(11).randn(start.data_mut());
            for x in start.data_mut() {
                let (mean, deviation) = (alpha(top) * MEAN, top.hypot(alpha(top) * DEVIATION));
                *x = (mean + f64::from(*x) * deviation) as f32;
            }
            let source = source(properties.noise, &sigmas, ELEMENTS);
            let run = Run::new(&backend, &mut denoiser, program, start, 1.0, source).unwrap();
            let samples = run.finish(&mut |_| ControlFlow::Continue(())).unwrap();

            let values = || samples.data().iter().map(|&value| f64::from(value));
            let mean = values().sum::<f64>() / ELEMENTS as f64;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / ELEMENTS as f64;
            let deviation = variance.sqrt();
            println!("{sampler}, flow {flow}: mean {mean:.4}, deviation {deviation:.4}");
            // What 40 steps are off by.
            let discretisation = if properties.order == 1 { 0.1 } else { 0.02 } * DEVIATION;
            let what = format!("{sampler}, flow {flow}: mean {mean}, deviation {deviation}");
            assert!((mean - MEAN).abs() < 4.0 * standard_error, "{what}");
            assert!((deviation - DEVIATION).abs() < 3.0 * standard_error + discretisation, "{what}");
        }
    }
    assert_eq!(samplers, 22);
}

#[test]
fn no_schedule_leads_to_nan() {
    let mut runs = 0;
    for sampler in Sampler::names().map(|name| name.parse::<Sampler>().unwrap()) {
        for scheduler in Scheduler::names().map(|name| name.parse::<Scheduler>().unwrap()) {
            for steps in [1, 2, 3, 5, 10, 25] {
                for sampling in [eps(), ModelSampling::flow(1.0).unwrap()] {
                    let flow = sampling.prediction() == Prediction::Flow;
                    let alpha = move |sigma: f64| if flow { 1.0 - sigma } else { 1.0 };
                    let denoiser = elementwise(move |x, sigma| posterior_mean(x, alpha(sigma), sigma));
                    let ksampler = KSampler::new(7, steps, 3.0, sampler.clone(), scheduler);
                    // Numbers that are not finite are an error of the run itself.
                    let what = format!("{sampler}, {}, {steps} steps, flow {flow}", scheduler.name());
                    match sample(&ksampler, sampling, denoiser, [1, 1, 4, 4]) {
                        Ok(_) => {
                            assert!(steps >= sampler.properties().fewest_steps, "{what}");
                            runs += 1;
                        }
                        // Some schedules are for few steps, or for no flow.
                        Err(Error::Value { op, .. }) if op == scheduler.name() => {}
                        Err(Error::Value { what: "steps", .. }) if steps == 1 => {}
                        Err(error) => panic!("{what}: {error}"),
                    }
                }
            }
        }
    }
    println!("samplers: {runs} runs of every length on every schedule");
    // Those of ComfyUI's nine schedules at the least, but for the four samplers that need two steps.
    assert!(runs >= (45 * 6 - 4) * 9 * 2);
}

#[test]
fn options_out_of_range_are_refused() {
    let model = eps();
    let sigmas = scheduler().sigmas(&model, 10).unwrap();
    let refused = [
        ("euler", json!({"s_churn": -1})),
        ("euler", json!({"s_noise": -1})),
        ("euler_ancestral", json!({"eta": -0.1})),
        ("lms", json!({"order": 0})),
        ("lms", json!({"order": 1000})),
        ("ipndm", json!({"max_order": 0})),
        ("ipndm_v", json!({"max_order": 5})),
        ("deis", json!({"max_order": 0})),
        ("dpm_fast", json!({"eta": -1})),
        ("dpm_adaptive", json!({"order": 1})),
        ("dpm_adaptive", json!({"atol": 0})),
        ("dpm_adaptive", json!({"rtol": -1})),
        ("dpm_adaptive", json!({"h_init": 0})),
        ("dpmpp_sde", json!({"r": 0})),
        ("dpmpp_sde", json!({"r": 1.5})),
        ("seeds_2", json!({"r": 0})),
        ("seeds_3", json!({"r_1": 0.7})),
        ("er_sde", json!({"max_stage": 4})),
        ("sa_solver", json!({"predictor_order": 0})),
        ("sa_solver", json!({"sde_end_percent": 2})),
        ("gradient_estimation", json!({"ge_gamma": -1})),
    ];
    for (name, options) in refused {
        let error = sampler(name, options.clone()).unwrap().program(&model, &sigmas).unwrap_err();
        assert!(matches!(error, Error::Value { .. }), "{name} {options}: {error}");
    }
    for (name, options) in [
        ("ddim", json!({"s_churn": 1})),
        ("euler", json!({"eta": 1})),
        ("deis", json!({"deis_mode": "tba"})),
        ("dpmpp_2m", json!({"eta": 0})),
        ("lms", json!({"order": -1})),
    ] {
        let error = sampler(name, options.clone()).unwrap_err();
        assert!(matches!(error, Error::Value { what: "options", .. }), "{name} {options}: {error}");
    }
}

#[test]
fn more_noise_than_a_level_has_is_clamped() {
    let flow = ModelSampling::flow(1.0).unwrap();
    for name in
        ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "res_multistep_ancestral"]
    {
        for model in [eps(), flow.clone()] {
            let sampler = sampler(name, json!({"eta": 5})).unwrap();
            let sigmas = scheduler().sigmas(&model, 6).unwrap();
            let program = sampler.program(&model, &sigmas).unwrap();
            let instructions = program.steps().iter().flat_map(|step| &step.instructions);
            for instruction in instructions {
                if let Instruction::Combine { terms, .. } = instruction {
                    assert!(
                        terms.iter().all(|(coefficient, _)| coefficient.is_finite()),
                        "{name}: {terms:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn cfgpp_asks_for_the_negative_branch_under_any_guidance() {
    let cfgpp = Sampler::names().filter(|name| name.contains("cfg_pp") || name.contains("cfgpp"));
    let mut count = 0;
    for name in cfgpp {
        for cfg in [1.0, 3.0] {
            let mut asked = [0, 0];
            let denoiser = |x: &Tensor, _: f64, branch: Branch, out: &mut Tensor| {
                asked[usize::from(branch == Branch::Negative)] += 1;
                out.data_mut().copy_from_slice(x.data());
                Ok(())
            };
            let ksampler = KSampler::new(1, 5, cfg, name.parse().unwrap(), scheduler());
            sample(&ksampler, eps(), denoiser, [1, 1, 2, 2]).unwrap();
            assert!(asked[0] >= 5 && asked[0] == asked[1], "{name} at {cfg}: {asked:?}");
        }
        count += 1;
    }
    assert_eq!(count, 8);
}
