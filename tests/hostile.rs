//! Whatever comes in, an error or an answer comes out: no panic, no hang, no NaN. Every public constructor and parser of
//! sampling, a million inputs in all: random ones, real ones with something wrong, and numbers from the ends of their
//! types.

mod support;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use noisefork::error::Result;
use noisefork::reference::Reference;
use noisefork::rng::{BrownianNoise, Mt19937};
use noisefork::sampling::lineage::{Fork, Forks, Lineage};
use noisefork::sampling::program::Program;
use noisefork::sampling::schedules::tools;
use noisefork::sampling::variations::VariationsWithNoise;
use noisefork::sampling::{
    Betas, Branch, KSampler, LatentImage, Levels, Model, ModelSampling, NoiseSource, NoiseState, Part,
    Prediction, Profile, Progress, Run, Sampler, Scheduler, Variations, names,
};
use noisefork::tensor::Tensor;
use rayon::prelude::*;
use serde_json::{Map, Value as Json, json};
use support::report::report;

type Cpu = Reference<f32>;

const KEYS: [&str; 46] = [
    "eta",
    "s_noise",
    "s_churn",
    "s_tmin",
    "s_tmax",
    "r",
    "r_1",
    "r_2",
    "solver_type",
    "order",
    "rtol",
    "atol",
    "h_init",
    "pcoeff",
    "icoeff",
    "dcoeff",
    "accept_safety",
    "max_order",
    "deis_mode",
    "max_stage",
    "use_pece",
    "predictor_order",
    "corrector_order",
    "simple_order_2",
    "sde_start_percent",
    "sde_end_percent",
    "variant",
    "ge_gamma",
    "cfg_pp",
    "rho",
    "sigma_min",
    "sigma_max",
    "alpha",
    "beta",
    "beta_d",
    "beta_min",
    "eps_s",
    "mu",
    "coeff",
    "model_type",
    "denoise",
    "noise",
    "h_eta",
    "Eta",
    "",
    "name",
];

static BACKEND: Cpu = Cpu::new();

/// SplitMix64 (Steele et al. 2014): one generator for each input, so that any of them can be made again.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number that was likely, unlikely, or not thought of.
    fn number(&mut self) -> f64 {
        const ENDS: [f64; 24] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            2.0,
            3.0,
            1e-5,
            1e-12,
            1e-40,
            5e-324,
            1e-300,
            f64::MIN_POSITIVE,
            1e5,
            1e6,
            1e12,
            3e38,
            1e39,
            1e300,
            f64::MAX,
            -1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        match self.below(8) {
            0..3 => self.of(&ENDS),
            3 => f64::from_bits(self.next()),
            4 => self.below(20) as f64,
            5 => 10f64.powf(self.unit() * 12.0 - 6.0),
            6 => -self.unit(),
            _ => self.unit(),
        }
    }

    fn count(&mut self) -> usize {
        let ends = [0, 1, 2, 3, 4, 5, 10, 1000, 1 << 20, 1 << 32, 1 << 62, usize::MAX, usize::MAX - 1];
        if self.one_in(2) { self.of(&ends) } else { self.below(50) }
    }

    fn json(&mut self) -> Json {
        match self.below(14) {
            0 => Json::Null,
            1 => json!(self.one_in(2)),
            2 => json!(self.of(&["NaN", "heun", "bh1", "phi_1", "rhoab", "midpoint", "SDXL", "", "1"])),
            3 => json!([self.number()]),
            4 => json!({"eta": self.number()}),
            5 => json!(self.next()),
            6 => json!(self.next() as i64),
            7 => json!(self.below(6)),
            _ => json!(self.number()),
        }
    }

    /// Options of the keys that something takes, now and then another's.
    fn options(&mut self, taken: &[&str]) -> Map<String, Json> {
        let count = self.below(4);
        let mut key = || {
            let any = taken.is_empty() || self.one_in(12);
            (self.of(if any { &KEYS } else { taken }).to_owned(), self.json())
        };
        (0..count).map(|_| key()).collect()
    }

    /// Levels that are right, wrong in one place, or anything.
    fn sigmas(&mut self) -> Vec<f32> {
        let length = 1 + self.below(50);
        if self.one_in(4) {
            return (0..length).map(|_| self.number() as f32).collect();
        }
        let top = if self.one_in(3) { self.number().abs() as f32 } else { self.of(&[1.0, 14.6, 80.0]) };
        let mut sigmas: Vec<f32> = (0..length).map(|_| top * self.unit() as f32).collect();
        sigmas.sort_by(|a, b| b.total_cmp(a));
        if self.one_in(2) {
            sigmas.push(0.0);
        }
        if self.one_in(3) {
            let at = self.below(sigmas.len());
            sigmas[at] = self.number() as f32;
        }
        sigmas
    }

    /// A text with something changed, bytes that are not text left out.
    fn mutated(&mut self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..1 + self.below(3) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.next() as u8),
                2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                3 => bytes.extend_from_within(at..),
                _ => bytes.rotate_left(at),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// JSON with one number or text in it made another.
    fn mutated_json(&mut self, value: &mut Json) {
        match value {
            Json::Object(map) if !map.is_empty() && !self.one_in(30) => {
                let at = self.below(map.len());
                map.values_mut().nth(at).into_iter().for_each(|value| self.mutated_json(value));
            }
            Json::Array(items) if !items.is_empty() && !self.one_in(30) => match self.below(12) {
                0 => items.truncate(items.len() / 2),
                1 => items.push(items[0].clone()),
                _ => {
                    let at = self.below(items.len());
                    self.mutated_json(&mut items[at]);
                }
            },
            Json::String(text) if self.one_in(2) => {
                *text = Sampler::names().nth(self.below(45)).unwrap().into()
            }
            Json::String(text) => *text = self.mutated(text),
            _ => *value = if self.one_in(4) { json!(self.count()) } else { self.json() },
        }
    }

    fn sampler(&mut self) -> &'static str {
        Sampler::names().nth(self.below(Sampler::names().count())).unwrap()
    }

    fn scheduler(&mut self) -> &'static str {
        Scheduler::names().nth(self.below(Scheduler::names().count())).unwrap()
    }
}

fn eps() -> &'static ModelSampling {
    static EPS: LazyLock<ModelSampling> =
        LazyLock::new(|| ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap());
    &EPS
}

fn flow() -> &'static ModelSampling {
    static FLOW: LazyLock<ModelSampling> = LazyLock::new(|| ModelSampling::flow(3.0).unwrap());
    &FLOW
}

fn toy(x: &Tensor, sigma: f64, _: Branch, out: &mut Tensor) -> Result<()> {
    let share = (1.0 / (1.0 + sigma)) as f32;
    out.data_mut().iter_mut().zip(x.data()).for_each(|(out, x)| *out = (x * share).tanh());
    Ok(())
}

fn proceed(_: &Progress<'_, Cpu>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Whether there are samples; if so, they are finite.
fn assert_finite(samples: &Result<Tensor>) -> bool {
    let finite = |samples: &Tensor| samples.data().iter().all(|value| value.is_finite());
    assert!(samples.as_ref().is_ok_and(finite) || samples.is_err(), "{samples:?}");
    samples.is_ok()
}

/// Runs what was accepted, on two values.
fn run(program: Program) {
    let start = Tensor::new([1, 1, 1, 2], vec![0.7, -1.3]).unwrap();
    let mut denoiser = toy;
    let run = Run::new(&BACKEND, &mut denoiser, program, start, 2.0, Box::new(Mt19937::new(1))).unwrap();
    assert_finite(&run.finish(&mut proceed));
}

/// The options that each name takes, in order of the names.
fn keys_of<T>(
    names: impl Iterator<Item = &'static str>,
    with_options: fn(&str, &Map<String, Json>) -> Result<T>,
) -> Vec<(&'static str, Vec<&'static str>)> {
    let takes =
        |name: &str, key: &str| match with_options(name, &Map::from_iter([(key.to_owned(), json!(1))])) {
            Ok(_) => true,
            Err(error) => !error.to_string().contains("unknown field"),
        };
    let keys = |name| KEYS.into_iter().filter(|key| takes(name, key)).collect();
    names.map(|name| (name, keys(name))).collect()
}

static SAMPLERS: LazyLock<Vec<(&str, Vec<&str>)>> =
    LazyLock::new(|| keys_of(Sampler::names(), Sampler::with_options));
static SCHEDULERS: LazyLock<Vec<(&str, Vec<&str>)>> =
    LazyLock::new(|| keys_of(Scheduler::names(), Scheduler::with_options));

fn a_name(rng: &mut Rng) -> bool {
    let real = if rng.one_in(2) { rng.sampler() } else { rng.scheduler() };
    let name: String = match rng.below(3) {
        0 => (0..rng.below(24)).map(|_| char::from_u32(rng.below(0x300) as u32).unwrap_or('_')).collect(),
        _ => rng.mutated(real),
    };
    match rng.below(5) {
        0 => name.parse::<Sampler>().is_ok(),
        1 => name.parse::<Scheduler>().is_ok(),
        2 => name.parse::<Profile>().is_ok(),
        3 => names::sampler(&name).is_ok(),
        _ => Sampler::with_options(&name, &rng.options(&[])).is_ok(),
    }
}

fn sampler_options(rng: &mut Rng) -> bool {
    let (name, keys) = &SAMPLERS[rng.below(SAMPLERS.len())];
    let Ok(sampler) = Sampler::with_options(name, &rng.options(keys)) else { return false };
    let _ = (sampler.properties(), serde_json::to_string(&sampler));
    let sampling = if rng.one_in(3) { flow() } else { eps() };
    let Ok(program) = sampler.program(sampling, &[0.99, 0.6, 0.3, 0.1, 0.0]) else { return false };
    if rng.one_in(4) {
        run(program);
    }
    true
}

fn scheduler_options(rng: &mut Rng) -> bool {
    let (name, keys) = &SCHEDULERS[rng.below(SCHEDULERS.len())];
    let Ok(scheduler) = Scheduler::with_options(name, &rng.options(keys)) else { return false };
    let steps = if rng.one_in(1000) { Scheduler::MAX_STEPS } else { rng.count() % 2000 };
    let sampling = if rng.one_in(3) { flow() } else { eps() };
    let Ok(sigmas) = scheduler.sigmas(sampling, steps) else { return false };
    assert!(sigmas.iter().all(|sigma| sigma.is_finite()), "{scheduler:?}: {sigmas:?}");
    true
}

fn levels(rng: &mut Rng) -> bool {
    let sigmas = rng.sigmas();
    let sampling = if rng.one_in(3) { flow() } else { eps() };
    let sampler: Sampler = rng.sampler().parse().unwrap();
    match rng.below(12) {
        0 => drop(tools::split(&sigmas, rng.count())),
        1 => drop(tools::split_denoise(&sigmas, rng.number())),
        2 => drop(tools::set_first(&sigmas, rng.number() as f32)),
        3 => drop(tools::flip(&sigmas)),
        _ => {}
    }
    let Ok(program) = sampler.program(sampling, &sigmas) else { return false };
    if rng.one_in(4) {
        run(program);
    }
    true
}

fn model_sampling(rng: &mut Rng) -> bool {
    let betas = match rng.below(3) {
        0 => Betas::ScaledLinear { start: rng.number(), end: rng.number() },
        1 => Betas::Linear { start: rng.number(), end: rng.number() },
        _ => Betas::Cosine,
    };
    let levels = match rng.below(4) {
        0 => Levels::Discrete { betas, zero_terminal_snr: rng.one_in(2) },
        1 => Levels::ContinuousEdm { sigma_min: rng.number(), sigma_max: rng.number() },
        2 => Levels::ContinuousV { sigma_min: rng.number(), sigma_max: rng.number() },
        _ => Levels::DiscreteFlow { shift: rng.number() as f32 },
    };
    let predictions = [Prediction::Eps, Prediction::V, Prediction::Edm, Prediction::X0, Prediction::Flow];
    let Ok(model) = ModelSampling::new(rng.of(&predictions), levels) else { return false };
    let Ok(model) = model.with_sigma_data(rng.number()) else { return false };
    assert!(model.sigmas().iter().all(|sigma| sigma.is_finite()));
    let _ = (model.timestep(rng.number() as f32), model.sigma(rng.number() as f32));
    let written = serde_json::to_value(&model).unwrap().to_string();
    assert_eq!(serde_json::from_str::<ModelSampling>(&written).unwrap(), model, "{written}");
    true
}

fn lineage(rng: &mut Rng) -> bool {
    let sampler: Sampler = "euler_ancestral".parse().unwrap();
    let scheduler = rng.scheduler().parse().unwrap();
    let real = Lineage::new(5, 6, 2.0, sampler.clone(), scheduler);
    let fork = if rng.one_in(2) { Fork::Strength(rng.number()) } else { Fork::Sigma(rng.number()) };
    let forked = real.fork(eps(), fork, sampler, 9, rng.number()).unwrap_or(real);
    let mut written = serde_json::to_value(&forked).unwrap();
    rng.mutated_json(&mut written);
    let text = if rng.one_in(4) { rng.mutated(&written.to_string()) } else { written.to_string() };
    let _ = serde_json::from_str::<Fork>(&text);
    let _ = serde_json::from_str::<KSampler>(&text);
    let Ok(lineage) = serde_json::from_str::<Lineage>(&text) else { return false };
    if (51..=Scheduler::MAX_STEPS).contains(&lineage.steps) {
        return true;
    }
    let latent = Tensor::zeros([1, 1, 1, 2]);
    let mut model = Model { backend: &BACKEND, denoiser: toy, sampling: eps().clone(), latent_scale: 1.0 };
    assert_finite(&Forks::new(&latent).unwrap().sample(&mut model, &[forked, lineage], &mut proceed))
}

fn ksampler(rng: &mut Rng) -> bool {
    let ksampler = KSampler {
        cfg: rng.number(),
        denoise: if rng.one_in(2) { 1.0 } else { rng.number() },
        start_step: rng.of(&[0, 1, 40, usize::MAX - 1, usize::MAX]),
        last_step: rng.of(&[None, Some(3), Some(usize::MAX), Some(0)]),
        force_full_denoise: rng.one_in(2),
        disable_noise: rng.one_in(2),
        ..KSampler::new(rng.next(), rng.below(8), 1.0, rng.sampler().parse().unwrap(), Scheduler::Normal)
    };
    if ksampler.denoise < 0.01 {
        return ksampler.plan(eps()).is_ok();
    }
    let values = [0.0, 1.0, 1.0, rng.number() as f32];
    let latent = Tensor::new([2, 1, 1, 2], values.to_vec()).unwrap();
    let mask = Tensor::new([1, 1, 1, 2], vec![rng.number() as f32, 0.4]).unwrap();
    let image = LatentImage {
        samples: &latent,
        noise_mask: rng.one_in(3).then_some(&mask),
        batch_index: None,
        part: rng.one_in(2).then_some(Part { first: rng.count(), of: rng.count() }),
    };
    let mut model = Model { backend: &BACKEND, denoiser: toy, sampling: eps().clone(), latent_scale: 1.0 };
    assert_finite(&ksampler.sample(&mut model, image, &mut proceed))
}

fn variations(rng: &mut Rng) -> bool {
    let latent = Tensor::zeros([2, 1, 1, 2]);
    let mut model = Model { backend: &BACKEND, denoiser: toy, sampling: eps().clone(), latent_scale: 1.0 };
    let sampler: Sampler = rng.sampler().parse().unwrap();
    let (steps, cfg) = (if rng.one_in(2) { 5 } else { rng.count() }, rng.number());
    let variation_strength = if rng.one_in(2) { rng.unit() } else { rng.number() };
    if (51..=Scheduler::MAX_STEPS).contains(&steps) {
        return false;
    }
    if rng.one_in(2) {
        let settings = VariationsWithNoise {
            profile: Profile::default(),
            main_seed: rng.next(),
            steps,
            cfg,
            sampler,
            scheduler: Scheduler::Normal,
            variation_strength,
            variation_seed: rng.next(),
            denoise: if rng.one_in(2) { 0.5 } else { rng.number() },
        };
        return assert_finite(&settings.sample(&mut model, &latent, &mut proceed));
    }
    let settings = Variations {
        profile: Profile::default(),
        noise_seed: rng.next(),
        steps,
        cfg,
        sampler,
        scheduler: Scheduler::Normal,
        variation_seed: rng.next(),
        variation_strength,
        cfg_scale: rng.number(),
    };
    let _ = settings.diagnose(eps(), &latent);
    assert_finite(&settings.sample(&mut model, &latent, &mut proceed))
}

fn part(rng: &mut Rng) -> bool {
    let (shard, shards, of) = (rng.count(), rng.count(), rng.count());
    let Ok((part, length)) = Part::shard(shard, shards, of) else { return false };
    assert!(part.first.checked_add(length).is_some_and(|end| end <= of), "{part:?}, {length}");
    true
}

fn brownian(rng: &mut Rng) -> bool {
    let elements = rng.below(20);
    let Ok(mut noise) = BrownianNoise::new(rng.next(), elements, rng.number() as f32, rng.number() as f32)
    else {
        return false;
    };
    let mut out = vec![0.0; if rng.one_in(9) { elements + 1 } else { elements }];
    for _ in 0..2 {
        if noise.noise(rng.number() as f32, rng.number() as f32, &mut out).is_ok() {
            assert!(out.iter().all(|value| value.is_finite()), "{out:?}");
        }
    }
    true
}

/// Snapshots of runs of all kinds, somewhere on their way.
fn snapshots() -> &'static [Vec<u8>] {
    static SNAPSHOTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let latent = Tensor::new([2, 1, 1, 2], vec![0.5, -1.0, 0.2, 0.0]).unwrap();
        let mask = Tensor::new([1, 1, 1, 2], vec![0.0, 0.4]).unwrap();
        let whole = LatentImage::from(&latent);
        let images = [
            whole,
            LatentImage { noise_mask: Some(&mask), ..whole },
            LatentImage { part: Some(Part { first: 1, of: 4 }), ..whole },
        ];
        let names =
            ["euler", "euler_ancestral", "dpm_adaptive", "dpmpp_2m_sde", "uni_pc", "res_multistep_cfg_pp"];
        let mut snapshots = Vec::new();
        for (name, image) in names.iter().flat_map(|name| images.iter().map(move |image| (name, *image))) {
            for sampling in [eps(), flow()] {
                let mut model =
                    Model { backend: &BACKEND, denoiser: toy, sampling: sampling.clone(), latent_scale: 0.2 };
                let ksampler = KSampler::new(3, 5, 2.0, name.parse().unwrap(), Scheduler::Simple);
                let mut run = ksampler.start(&mut model, image).unwrap().unwrap();
                (0..2).for_each(|_| assert!(run.step(&mut proceed).unwrap()));
                snapshots.push(run.snapshot().unwrap());
            }
        }
        snapshots
    });
    &SNAPSHOTS
}

/// The header of a safetensors file as JSON, and what follows it.
fn split(bytes: &[u8]) -> (Json, &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (serde_json::from_slice(header).unwrap(), data)
}

fn joined(header: &Json, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn snapshot(rng: &mut Rng) -> bool {
    let mut bytes = rng.of(snapshots());
    match rng.below(10) {
        0 => bytes.truncate(rng.below(bytes.len())),
        1 | 2 => {
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        3 => {
            let (other, data) = (rng.of(snapshots()), rng.of(snapshots()));
            bytes = joined(&split(&other).0, split(&data).1);
        }
        4 => {
            let (mut header, data) = split(&bytes);
            rng.mutated_json(&mut header);
            bytes = joined(&header, data);
        }
        5 => {
            let (header, data) = split(&bytes);
            let mut data = data.to_vec();
            let at = rng.below(data.len() / 4) * 4;
            data[at..at + 4].copy_from_slice(&(rng.number() as f32).to_le_bytes());
            bytes = joined(&header, &data);
        }
        _ => {
            let (mut header, data) = split(&bytes);
            let settings = header["__metadata__"]["noisefork.run"].as_str().unwrap();
            let mut settings: Json = serde_json::from_str(settings).unwrap();
            // Without this nearly every change would be to one of the generator's 624 words.
            let key =
                rng.of(&["version", "program", "program", "position", "error", "cfg", "share", "noise"]);
            rng.mutated_json(&mut settings[key]);
            header["__metadata__"]["noisefork.run"] = settings.to_string().into();
            bytes = joined(&header, data);
        }
    }
    let mut denoiser = toy;
    let Ok(mut run) = Run::resume(&BACKEND, &mut denoiser, &bytes) else { return false };
    let _ = run.snapshot();
    for _ in 0..3 {
        if run.step(&mut proceed).is_err() {
            return true;
        }
    }
    let again = run.snapshot().unwrap();
    if run.of() - run.done() < 60 {
        assert_finite(&run.finish(&mut proceed));
    }
    assert!(Run::resume(&BACKEND, &mut denoiser, &again).is_ok());
    true
}

fn noise_state(rng: &mut Rng) -> bool {
    let mut generator = Mt19937::new(1);
    generator.randn(&mut [0.0; 5]);
    let generator = serde_json::to_value(generator.state().unwrap()).unwrap();
    let paths = json!({"brownian": {"seeds": [1], "elements": 4, "sigma_min": 0.1, "sigma_max": 9.0}});
    let mut state = match rng.below(5) {
        0 => generator,
        1 => paths,
        2 => json!({"part": {"source": paths, "start": rng.count(), "elements": rng.count()}}),
        3 => {
            json!({"part": {"source": {"part": {"source": paths, "start": 0, "elements": 4}}, "start": rng.count(),
            "elements": rng.count()}})
        }
        _ => json!({"per_item": [generator, paths]}),
    };
    rng.mutated_json(&mut state);
    let Ok(state) = serde_json::from_value::<NoiseState>(state) else { return false };
    let Ok(mut source) = state.source(4) else { return false };
    let mut out = [0.0; 4];
    if source.draw(3.0, 2.0, &mut out).is_ok() {
        assert!(source.state().is_some());
    }
    true
}

/// Feeds `count` inputs, reports how many were accepted, and returns `count`.
fn feed(what: &str, count: usize, input: fn(&mut Rng) -> bool) -> usize {
    const SLOW: Duration = Duration::from_secs(5);
    let began = Instant::now();
    let fed = (0..count as u64).into_par_iter().map(|number| {
        let began = Instant::now();
        let seed = number << 8 | what.len() as u64;
        let accepted = catch_unwind(AssertUnwindSafe(|| input(&mut Rng(seed))));
        let accepted = accepted.unwrap_or_else(|_| panic!("{what}: input {number} led to a panic"));
        (usize::from(accepted), began.elapsed(), number)
    });
    let worse = |a: (usize, Duration, u64), b: (usize, Duration, u64)| {
        let (time, number) = (a.1, a.2).max((b.1, b.2));
        (a.0 + b.0, time, number)
    };
    let (accepted, slowest, number) = fed.reduce(Default::default, worse);
    assert!(slowest < SLOW, "{what}: input {number} took {slowest:?}");
    assert!(
        accepted * 50 > count && accepted < count,
        "{what}: {accepted} of {count} accepted: no test of either"
    );
    let time = began.elapsed();
    report(format_args!("hostile: {count} {what} in {time:.1?}, {accepted} accepted, slowest {slowest:.1?}"));
    count
}

#[test]
fn a_million_hostile_inputs() {
    let inputs = [
        feed("names", 120_000, a_name),
        feed("sampler options", 250_000, sampler_options),
        feed("scheduler options", 120_000, scheduler_options),
        feed("levels", 200_000, levels),
        feed("model samplings", 40_000, model_sampling),
        feed("lineages", 60_000, lineage),
        feed("k-samplers", 60_000, ksampler),
        feed("variations", 30_000, variations),
        feed("parts", 50_000, part),
        feed("brownian paths", 20_000, brownian),
        feed("snapshots", 60_000, snapshot),
        feed("noise states", 20_000, noise_state),
    ];
    let total: usize = inputs.iter().sum();
    report(format_args!("hostile: {total} inputs"));
    assert!(total >= 1_000_000, "{total}");
}
