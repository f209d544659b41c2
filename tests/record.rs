//! A record makes a run again, whole or one item of it, with the same bits, or says why it cannot.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use noisefork::error::{Error, Result};
use noisefork::reference::Reference;
use noisefork::sampling::lineage::{Fork, Forks, Lineage};
use noisefork::sampling::program::{Builder, Value};
use noisefork::sampling::record::Settings;
use noisefork::sampling::samplers::{Algorithm, NoiseKind, Properties};
use noisefork::sampling::schedules::Karras;
use noisefork::sampling::variations::VariationsWithNoise;
use noisefork::sampling::{
    Betas, Branch, KSampler, LatentImage, Model, ModelSampling, Profile, Record, Sampler, Scheduler,
    Variations,
};
use noisefork::tensor::Tensor;

const SHAPE: [usize; 4] = [3, 4, 3, 5];

fn eps() -> ModelSampling {
    ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap()
}

fn sampler(name: &str) -> Sampler {
    name.parse().unwrap()
}

/// Data in two bumps, around -1 and 1.
fn denoise(x: &Tensor, sigma: f64, branch: Branch, out: &mut Tensor) -> Result<()> {
    let bias = if branch == Branch::Positive { 0.1 } else { -0.1 };
    for (out, &x) in out.data_mut().iter_mut().zip(x.data()) {
        *out = ((f64::from(x) / (sigma * sigma + 0.25) + bias).tanh()) as f32;
    }
    Ok(())
}

type Denoise = fn(&Tensor, f64, Branch, &mut Tensor) -> Result<()>;

fn with_model<T>(
    sampling: ModelSampling,
    run: impl FnOnce(&mut Model<'_, Reference<f32>, Denoise>) -> Result<T>,
) -> Result<T> {
    let backend = Reference::new();
    run(&mut Model { backend: &backend, denoiser: denoise as Denoise, sampling, latent_scale: 0.5 })
}

fn replay(record: &Record, latent: LatentImage, items: Range<usize>) -> Result<Tensor> {
    with_model(eps(), |model| record.replay(model, latent, items, &mut |_| ControlFlow::Continue(())))
}

fn record(settings: Settings) -> Record {
    let facts = BTreeMap::from([("prompt".to_owned(), "two \"bumps\"".to_owned())]);
    Record::new(settings, &eps(), SHAPE, facts).unwrap()
}

/// Latents that differ, and a mask for each.
fn latents() -> (Tensor, Tensor) {
    let latents = (0..180).map(|v| (v as f32 * 0.7).sin()).collect();
    let mask = (0..45).map(|v| (v % 4) as f32 / 3.0).collect();
    (Tensor::new(SHAPE, latents).unwrap(), Tensor::new([3, 1, 3, 5], mask).unwrap())
}

fn karras() -> Scheduler {
    Karras { rho: 7.1 * 1.1, ..Karras::default() }.into()
}

fn ksampler(name: &str) -> KSampler {
    // Numbers that a decimal a digit too short would miss.
    KSampler { denoise: 0.7 + 0.1, ..KSampler::new(u64::MAX, 6, 1.1 * 1.1, sampler(name), karras()) }
}

fn variations() -> Variations {
    Variations {
        profile: Profile::ComfyuiPost11528,
        noise_seed: 3,
        steps: 8,
        cfg: 1.1 * 1.1,
        sampler: sampler("euler_ancestral"),
        scheduler: karras(),
        variation_seed: 4,
        variation_strength: 0.5,
        cfg_scale: 0.9,
    }
}

fn with_noise() -> VariationsWithNoise {
    VariationsWithNoise {
        profile: Profile::default(),
        main_seed: 5,
        steps: 6,
        cfg: 1.1 * 1.1,
        sampler: sampler("dpmpp_2m_sde"),
        scheduler: karras(),
        variation_strength: 0.1 + 0.2,
        variation_seed: 6,
        denoise: 0.7 + 0.1,
    }
}

fn lineages() -> Vec<Lineage> {
    let composition = Lineage::new(7, 8, 1.1 * 1.1, sampler("dpmpp_2m"), karras());
    let vary = |strength, seed| {
        composition.fork(&eps(), Fork::Strength(strength), sampler("dpmpp_2m_sde"), seed, 1.5).unwrap()
    };
    vec![composition.clone(), vary(0.3, 8), vary(0.6, 9)]
}

/// Holds a record that has been to text and back to `first`, the bits of the run that it tells of.
#[track_caller]
fn assert_makes_again(settings: Settings, latent: LatentImage, first: Tensor) {
    let written = record(settings);
    let read = Record::from_json(&written.to_json().unwrap()).unwrap();
    assert_eq!(read, written);
    assert!(first.data().iter().all(|value| value.is_finite()));
    assert_eq!(replay(&read, latent, 0..3).unwrap(), first);
    for items in [0..1, 1..2, 2..3, 1..3, 3..3] {
        assert_eq!(replay(&read, latent, items.clone()).unwrap(), first.items(items).unwrap());
    }
}

#[test]
fn ksampler_runs_are_made_again() {
    let (latent, mask) = latents();
    let image = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
    // Gaussian noise, Brownian noise, noise of its own for the mask, none.
    for name in ["euler_ancestral", "dpmpp_2m_sde", "uni_pc", "ddpm", "heun"] {
        let run = ksampler(name);
        let first = with_model(eps(), |model| run.sample(model, image, &mut |_| ControlFlow::Continue(())));
        assert_makes_again(Settings::KSampler(run), image, first.unwrap());
    }
}

#[test]
fn variations_are_made_again() {
    let (latent, mask) = latents();
    let image = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
    let node = variations();
    let first = with_model(eps(), |model| node.sample(model, image, &mut |_| ControlFlow::Continue(())));
    assert_makes_again(Settings::Variations(node), image, first.unwrap());
}

#[test]
fn variations_with_noise_are_made_again() {
    let (latent, mask) = latents();
    let image = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
    let node = with_noise();
    let first = with_model(eps(), |model| node.sample(model, image, &mut |_| ControlFlow::Continue(())));
    assert_makes_again(Settings::VariationsWithNoise(node), image, first.unwrap());
}

#[test]
fn lineages_are_made_again() {
    let (latents, _) = latents();
    let latent = latents.items(0..1).unwrap();
    let first = with_model(eps(), |model| {
        Forks::new(&latent)?.sample(model, &lineages(), &mut |_| ControlFlow::Continue(()))
    });
    assert_makes_again(Settings::Lineages(lineages()), (&latent).into(), first.unwrap());
}

#[track_caller]
fn assert_value(result: Result<Tensor>, op: &str, name: &str, words: &str) {
    let Err(error @ Error::Value { op: by, what, .. }) = &result else { panic!("{result:?}") };
    assert_eq!((*by, *what), (op, name), "{error}");
    assert!(error.to_string().contains(words), "{words:?} is not in {error}");
}

#[test]
fn what_would_make_other_bits_is_refused() {
    let (latent, _) = latents();
    let good = record(Settings::Variations(variations()));

    let mut edited = good.clone();
    edited.levels[0][1] = edited.levels[0][1].next_up();
    assert_value(replay(&edited, (&latent).into(), 0..3), "record", "levels", "noisefork");
    let other = ModelSampling::eps(Betas::ScaledLinear { start: 0.001, end: 0.012 }).unwrap();
    let elsewhere =
        with_model(other, |model| good.replay(model, &latent, 0..3, &mut |_| ControlFlow::Continue(())));
    assert_value(elsewhere, "record", "levels", "noisefork");

    let two = latent.items(0..2).unwrap();
    let refused = replay(&good, (&two).into(), 0..2);
    assert!(matches!(refused, Err(Error::Shape { op: "record", tensor: "latent", .. })), "{refused:?}");
    let image = LatentImage { batch_index: Some(&[0, 1, 2]), ..(&latent).into() };
    assert_value(replay(&good, image, 0..3), "record", "latent", "whole batch");
    assert_value(replay(&good, (&latent).into(), 2..4), "part", "items", "within a batch of 3");

    let mut short = lineages();
    short.pop();
    let first = latent.items(0..1).unwrap();
    let refused = replay(&record(Settings::Lineages(short)), (&first).into(), 0..1);
    assert_value(refused, "record", "lineages", "3, one an item, got 2");
}

/// A sampler of the caller's own, under a name that is another's.
#[derive(Debug)]
struct Own(f64);

impl Algorithm for Own {
    fn properties(&self) -> Properties {
        Properties::new(1, 1, NoiseKind::None)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        p.step(sigmas[0]);
        let denoised = p.denoise(p.start(), sigmas[0]);
        Ok(p.combine(denoised * self.0))
    }
}

#[test]
fn samplers_of_the_callers_own_are_not_others() {
    let [one, two] = [1.0, 2.0].map(|factor| Sampler::new("euler", Own(factor)));
    assert_eq!(one, one.clone());
    assert_ne!(one, two);
    assert_ne!(one, sampler("euler"));
    assert_eq!(sampler("euler"), sampler("euler"));

    // Neither is taken for what the other's run left.
    let latent = Tensor::zeros([1, 4, 2, 2]);
    let [first, second] = [&one, &two].map(|own| Lineage::new(7, 4, 1.5, own.clone(), Scheduler::Normal));
    let samples = with_model(eps(), |model| {
        Forks::new(&latent)?.sample(model, &[first, second], &mut |_| ControlFlow::Continue(()))
    });
    let samples = samples.unwrap();
    assert_ne!(samples.items(0..1).unwrap(), samples.items(1..2).unwrap());
}

#[test]
fn a_record_does_not_take_a_sampler_for_another() {
    let mut forked = lineages();
    forked[2].segments[1].sampler = Sampler::new("dpmpp_2m_sde", Own(1.0));
    let own = || Sampler::new("euler", Own(1.0));
    for settings in [
        Settings::KSampler(KSampler { sampler: own(), ..ksampler("euler") }),
        Settings::Variations(Variations { sampler: own(), ..variations() }),
        Settings::VariationsWithNoise(VariationsWithNoise { sampler: own(), ..with_noise() }),
        Settings::Lineages(forked),
    ] {
        let refused = record(settings).to_json();
        assert!(matches!(refused, Err(Error::Value { op: "record", what: "sampler", .. })), "{refused:?}");
    }
}

#[test]
fn text_that_is_no_record_is_refused() {
    let good = record(Settings::Variations(variations())).to_json().unwrap();
    let edits = [
        ("comfyui-post-11528", "comfyui-9"),
        ("euler_ancestral", "eular"),
        ("karras", "karas"),
        ("rho", "row"),
        ("Variations", "Variation"),
        ("noise_seed", "noise_sead"),
        ("[3,4,3,5]", "[3,4,3]"),
        ("\"facts\"", "\"fact\""),
    ];
    for (from, to) in edits {
        let edited = good.replace(from, to);
        assert_ne!(edited, good, "{from}");
        let refused = Record::from_json(&edited);
        let Err(Error::Value { op: "record", what: "text", got, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert!(got.contains(to.trim_matches(['"', '[', ']'])) || got.contains("length 3"), "{to}: {got}");
    }
    assert!(Record::from_json(&good[..good.len() / 2]).is_err());
}
