//! Variations as users want them: what the node does silently wrong is named, or cannot happen.

use std::ops::ControlFlow;

use noisefork::error::{Error, Result};
use noisefork::reference::Reference;
use noisefork::sampling::lineage::{Fork, Forks, Lineage};
use noisefork::sampling::schedules::Karras;
use noisefork::sampling::variations::{Diagnostic, VariationsWithNoise};
use noisefork::sampling::{
    Betas, Branch, KSampler, LatentImage, Model, ModelSampling, Part, Profile, Sampler, Scheduler, Variations,
};
use noisefork::tensor::{Shaped, Tensor};
use proptest::prelude::*;

type Cpu = Reference<f32>;

/// Data that is not Gaussian, so that samplers have something to differ in: two bumps, around -1 and 1.
fn denoise(x: &Tensor, sigma: f64, branch: Branch, out: &mut Tensor) -> Result<()> {
    let bias = if branch == Branch::Positive { 0.1 } else { -0.1 };
    for (out, &x) in out.data_mut().iter_mut().zip(x.data()) {
        let (x, noise, own) = (f64::from(x), sigma * sigma, 0.25);
        *out = (((x / (noise + own) + bias).tanh() * noise + x * own) / (noise + own)) as f32;
    }
    Ok(())
}

/// Calls the model with a fresh one that counts.
fn with_model<T>(
    run: impl FnOnce(&mut Model<'_, Cpu, &mut dyn FnMut(&Tensor, f64, Branch, &mut Tensor) -> Result<()>>) -> T,
) -> (T, usize) {
    let mut items = 0;
    let backend = Cpu::new();
    let mut counting = |x: &Tensor, sigma: f64, branch: Branch, out: &mut Tensor| {
        items += usize::from(branch == Branch::Positive) * x.shape()[0];
        denoise(x, sigma, branch, out)
    };
    let denoiser: &mut dyn FnMut(&Tensor, f64, Branch, &mut Tensor) -> Result<()> = &mut counting;
    let mut model = Model { backend: &backend, denoiser, sampling: eps(), latent_scale: 0.5 };
    let result = run(&mut model);
    (result, items)
}

fn eps() -> ModelSampling {
    ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap()
}

fn sampler(name: &str) -> Sampler {
    name.parse().unwrap()
}

fn grow<'l>(forks: &mut Forks<'l>, lineages: &[Lineage]) -> (Tensor, usize) {
    let (samples, items) =
        with_model(|model| forks.sample(model, lineages, &mut |_| ControlFlow::Continue(())));
    (samples.unwrap(), items)
}

fn alone(latent: &Tensor, lineage: &Lineage) -> Tensor {
    grow(&mut Forks::new(latent).unwrap(), std::slice::from_ref(lineage)).0
}

fn composition() -> Lineage {
    Lineage::new(7, 10, 2.0, sampler("dpmpp_2m"), Karras::default().into())
}

fn vary(from: &Lineage, at: Fork, seed: u64) -> Lineage {
    from.fork(&eps(), at, sampler("dpmpp_2m_sde"), seed, 2.0).unwrap()
}

#[test]
fn every_item_is_made_again_alone_bit_for_bit() {
    let latent = Tensor::zeros([1, 4, 3, 5]);
    let composition = composition();
    let first = vary(&composition, Fork::Strength(0.5), 1);
    let lineages = vec![
        composition.clone(),
        first.clone(),
        vary(&composition, Fork::Strength(0.5), 2),
        vary(&composition, Fork::Strength(0.8), 2),
        vary(&composition, Fork::Sigma(2.0), 3),
        // Variations of a variation, before and after its own fork.
        vary(&first, Fork::Strength(0.2), 4),
        vary(&first, Fork::Strength(0.9), 5),
        composition.fork(&eps(), Fork::Strength(0.4), sampler("euler_ancestral"), 6, 1.0).unwrap(),
    ];
    let (together, _) = grow(&mut Forks::new(&latent).unwrap(), &lineages);
    for (item, lineage) in lineages.iter().enumerate() {
        assert_eq!(together.items(item..item + 1).unwrap(), alone(&latent, lineage), "item {item}");
        for other in 0..item {
            assert_ne!(together.items(item..item + 1).unwrap(), together.items(other..other + 1).unwrap());
        }
    }
}

#[test]
fn what_lineages_share_is_run_once_and_kept() {
    let latent = Tensor::zeros([1, 4, 2, 2]);
    let lineages: Vec<_> = (0..16).map(|seed| vary(&composition(), Fork::Strength(0.3), seed)).collect();
    let mut forks = Forks::new(&latent).unwrap();
    assert_eq!(grow(&mut forks, &lineages).1, 7 + 16 * 3);
    let more = vary(&composition(), Fork::Strength(0.3), 99);
    assert_eq!(grow(&mut forks, std::slice::from_ref(&more)), (alone(&latent, &more), 3));
}

#[test]
fn a_mask_keeps_the_latents_as_they_came() {
    let latent = Tensor::new([1, 4, 2, 2], (0..16).map(|v| v as f32 / 8.0 - 1.0).collect()).unwrap();
    let mask = Tensor::new([1, 1, 2, 2], vec![1.0, 0.0, 1.0, 0.0]).unwrap();
    let image = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
    let mut forks = Forks::new(image).unwrap();
    let lineages: Vec<_> = (0..2).map(|seed| vary(&composition(), Fork::Strength(0.4), seed)).collect();
    let (samples, _) = grow(&mut forks, &lineages);
    for (index, (sample, kept)) in samples.data().iter().zip(latent.data().iter().cycle()).enumerate() {
        assert!(index % 2 == 0 || (sample - kept).abs() < 1e-6, "{index}: {sample} for {kept}");
    }
    assert_ne!(samples.items(0..1).unwrap(), samples.items(1..2).unwrap());
}

#[test]
fn forks_that_would_change_nothing_are_refused() {
    let refused = |lineage: Lineage, at, name| match lineage.fork(&eps(), at, sampler(name), 1, 1.0) {
        Err(Error::Value { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let one_step = Lineage { steps: 1, ..composition() };
    assert_eq!(refused(composition(), Fork::Strength(0.5), "euler"), "sampler");
    assert_eq!(refused(one_step, Fork::Strength(0.5), "euler_ancestral"), "steps");
    assert_eq!(refused(composition(), Fork::Strength(1.5), "euler_ancestral"), "variation_strength");
    assert_eq!(refused(composition(), Fork::Strength(f64::NAN), "euler_ancestral"), "variation_strength");
    assert_eq!(refused(composition(), Fork::Sigma(f64::NAN), "euler_ancestral"), "fork sigma");
    assert_eq!(vary(&composition(), Fork::Strength(0.0), 1), composition());

    // It adds noise in the middle of the schedule only.
    assert_eq!(refused(composition(), Fork::Strength(0.2), "sa_solver"), "sampler");
    assert!(composition().fork(&eps(), Fork::Strength(0.7), sampler("sa_solver"), 1, 1.0).is_ok());
    // Some draw noise where it weighs nothing.
    for name in ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "seeds_2", "seeds_3", "er_sde"] {
        let still = serde_json::json!({"s_noise": 0}).as_object().unwrap().clone();
        let still = Sampler::with_options(name, &still).unwrap();
        let fork = composition().fork(&eps(), Fork::Strength(0.5), still, 1, 1.0);
        assert!(matches!(fork, Err(Error::Value { what: "sampler", .. })), "{name}: {fork:?}");
    }
}

#[test]
fn lineages_that_lead_nowhere_are_refused() {
    let latent = Tensor::zeros([1, 4, 2, 2]);
    let refused = |edit: fn(&mut Lineage)| {
        let mut lineage = vary(&composition(), Fork::Strength(0.5), 1);
        edit(&mut lineage);
        let (result, _) = with_model(|model| {
            Forks::new(&latent)?.sample(model, &[lineage], &mut |_| ControlFlow::Continue(()))
        });
        assert!(matches!(result, Err(Error::Value { .. })), "{result:?}");
    };
    refused(|l| l.segments.clear());
    refused(|l| l.segments[0].until = None);
    refused(|l| l.segments[0].until = Some(0));
    refused(|l| l.segments[0].until = Some(usize::MAX));
    refused(|l| l.segments[1].until = Some(3));
    refused(|l| l.segments[1].cfg = f64::NAN);
    refused(|l| l.steps = 0);
    // Of one step these samplers make no picture, or are handed one when the last level but one is left out.
    refused(|l| (l.segments[0].sampler, l.segments[0].until) = (sampler("uni_pc"), Some(1)));
    refused(|l| (l.segments[1].sampler, l.segments[0].until) = (sampler("dpm_fast"), Some(9)));
    refused(|l| (l.segments[1].sampler, l.segments[0].until) = (sampler("uni_pc"), Some(8)));
    assert!(Forks::new(&Tensor::zeros([2, 4, 2, 2])).is_err());
}

#[test]
fn a_fork_leaves_the_steps_that_samplers_want() {
    let start = |name| {
        let fork = composition().fork(&eps(), Fork::Strength(0.01), sampler(name), 1, 1.0).unwrap();
        fork.segments[0].until
    };
    assert_eq!(start("euler_ancestral"), Some(8));
    // It leaves a level out, and a single step that is left would add no noise.
    assert_eq!(start("dpm_2_ancestral"), Some(7));

    let uni_pc = Lineage::new(7, 10, 2.0, sampler("uni_pc"), Karras::default().into());
    let refused = uni_pc.fork(&eps(), Fork::Strength(0.9), sampler("euler_ancestral"), 1, 1.0);
    assert!(matches!(refused, Err(Error::Value { op: "uni_pc", what: "steps", .. })), "{refused:?}");
}

/// Variations of strength above 0 differ, whatever the schedule, down to two steps.
#[test]
fn a_variation_varies() {
    let latent = Tensor::zeros([1, 4, 2, 2]);
    for steps in [2, 3, 20] {
        for scheduler in ["karras", "normal", "simple", "beta", "kl_optimal"] {
            for strength in [0.001, 0.05, 0.5, 1.0] {
                let scheduler: Scheduler = scheduler.parse().unwrap();
                let composition = Lineage::new(7, steps, 1.5, sampler("dpm_2"), scheduler);
                let [a, b] =
                    [1, 2].map(|seed| alone(&latent, &vary(&composition, Fork::Strength(strength), seed)));
                assert_ne!(a, b, "{scheduler} {steps} {strength}");
            }
        }
    }
}

/// Whatever the sampler: either it is refused, or its variations differ.
#[test]
fn no_sampler_makes_the_same_variation_twice() {
    let latent = Tensor::zeros([1, 4, 2, 2]);
    let composition = Lineage::new(7, 12, 1.5, sampler("euler"), Karras::default().into());
    let mut varied = 0;
    for name in Sampler::names() {
        for strength in [0.01, 0.3, 0.9] {
            let fork = |seed| composition.fork(&eps(), Fork::Strength(strength), sampler(name), seed, 1.5);
            let (Ok(a), Ok(b)) = (fork(1), fork(2)) else { continue };
            assert_ne!(alone(&latent, &a), alone(&latent, &b), "{name} {strength}");
            varied += 1;
        }
    }
    assert!(varied > 50, "{varied}");
}

fn node() -> Variations {
    Variations {
        profile: Profile::default(),
        noise_seed: 1,
        steps: 20,
        cfg: 2.0,
        sampler: sampler("euler"),
        scheduler: Karras::default().into(),
        variation_seed: 2,
        variation_strength: 0.5,
        cfg_scale: 1.0,
    }
}

#[test]
fn the_node_is_diagnosed() {
    let latent = Tensor::zeros([4, 4, 2, 2]);
    let of = |node: Variations| node.diagnose(&eps(), &latent).unwrap();
    assert_eq!(of(node()), []);
    assert_eq!(
        of(Variations { variation_strength: 0.8, ..node() }),
        [Diagnostic::TruncatedFork { used: 3, exact: 4 }]
    );
    assert_eq!(of(Variations { variation_strength: 0.05, ..node() }), [Diagnostic::NoVariation { steps: 1 }]);
    assert_eq!(of(Variations { variation_strength: 0.0, ..node() }), [Diagnostic::NoVariation { steps: 0 }]);
    assert_eq!(of(Variations { variation_strength: 1.0, ..node() }), [Diagnostic::SharedFirstStep]);
    assert_eq!(of(Variations { variation_seed: 1, ..node() }), [Diagnostic::SameSeed]);
    assert_eq!(of(Variations { cfg_scale: 0.25, ..node() }), [Diagnostic::CfgRaised { asked: 0.5 }]);
    let mismatch = of(Variations { sampler: sampler("dpm_2"), variation_strength: 0.2, ..node() });
    // 0.170 and 0.121, as measured of the node.
    assert!(
        matches!(mismatch[..], [Diagnostic::ForkMismatch { left, assumed }]
            if (left - 0.170).abs() < 1e-3 && (assumed - 0.121).abs() < 1e-3),
        "{mismatch:?}"
    );
    let long = Variations {
        scheduler: "ddim_uniform".parse().unwrap(),
        steps: 24,
        variation_strength: 0.0,
        ..node()
    };
    let long = of(long);
    assert!(
        long.iter().any(|d| matches!(d, Diagnostic::LeftoverNoise { sigma } if (sigma - 0.041).abs() < 1e-3)),
        "{long:?}"
    );

    let mask = Tensor::zeros([1, 1, 2, 2]);
    let masked = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
    assert!(matches!(node().diagnose(&eps(), masked).unwrap()[..], [Diagnostic::NoisyKeep { .. }]));
}

/// The pairs of steps and strength at which f64 moves the fork, as counted of the node: 54 of 10,100.
#[test]
fn every_truncated_fork_is_found() {
    let latent = Tensor::zeros([1, 4, 1, 1]);
    let mut found = 0;
    for steps in 1..=100 {
        for hundredths in 0..=100 {
            let variation_strength = f64::from(hundredths) / 100.0;
            let node = Variations { steps, variation_strength, scheduler: Scheduler::Simple, ..node() };
            let diagnoses = node.diagnose(&eps(), &latent).unwrap();
            found += diagnoses.iter().filter(|d| matches!(d, Diagnostic::TruncatedFork { .. })).count();
        }
    }
    assert_eq!(found, 54);
}

fn sample(node: &Variations, latent: &Tensor, items: std::ops::Range<usize>) -> Tensor {
    let (samples, _) =
        with_model(|model| node.sample_items(model, latent, items, &mut |_| ControlFlow::Continue(())));
    samples.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Shards of the node's batch, and of a k-sampler's, are exactly its items.
    #[test]
    fn a_part_of_a_batch_has_its_bits(
        batch in 1usize..7, shards in 1usize..5, size in 1usize..4, name in prop::sample::select(vec![
            "euler", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "lcm", "seeds_2",
        ]),
    ) {
        let latent = Tensor::zeros([batch, 4, size, 3]);
        let node = Variations { steps: 6, sampler: sampler(name), ..node() };
        let run = KSampler::new(5, 6, 2.0, sampler(name), Scheduler::Normal);
        let whole = sample(&node, &latent, 0..batch);
        let (run_whole, _) = with_model(|model| run.sample(model, &latent, &mut |_| ControlFlow::Continue(())));
        let run_whole = run_whole.unwrap();
        let mut covered = 0;
        for shard in 1..=shards {
            let (part, items) = Part::shard(shard, shards, batch).unwrap();
            prop_assert_eq!(part.first, covered);
            covered += items;
            if items == 0 {
                continue;
            }
            let range = part.first..part.first + items;
            prop_assert_eq!(sample(&node, &latent, range.clone()), whole.items(range.clone()).unwrap());
            let some = latent.items(range.clone()).unwrap();
            let image = LatentImage { part: Some(part), ..(&some).into() };
            let (samples, _) = with_model(|model| run.sample(model, image, &mut |_| ControlFlow::Continue(())));
            prop_assert_eq!(samples.unwrap(), run_whole.items(range).unwrap());
        }
        prop_assert_eq!(covered, batch);
    }
}

#[test]
fn parts_that_do_not_exist() {
    assert!(Part::shard(0, 4, 8).is_err() && Part::shard(5, 4, 8).is_err() && Part::shard(1, 0, 8).is_err());
    let latent = Tensor::zeros([2, 4, 2, 2]);
    let (refused, _) =
        with_model(|model| node().sample_items(model, &latent, 1..3, &mut |_| ControlFlow::Continue(())));
    assert!(matches!(refused, Err(Error::Value { what: "items", .. })), "{refused:?}");
    let beyond = LatentImage { part: Some(Part { first: usize::MAX, of: 4 }), ..(&latent).into() };
    let run = KSampler::new(5, 6, 2.0, sampler("euler"), Scheduler::Normal);
    let (refused, _) = with_model(|model| run.sample(model, beyond, &mut |_| ControlFlow::Continue(())));
    assert!(matches!(refused, Err(Error::Value { what: "items", .. })), "{refused:?}");
}

#[test]
fn noise_injection_interpolates() {
    let latent = Tensor::zeros([3, 16, 4, 4]);
    let node = |variation_strength, variation_seed| VariationsWithNoise {
        profile: Profile::default(),
        main_seed: 3,
        steps: 8,
        cfg: 1.5,
        sampler: sampler("euler"),
        scheduler: Karras::default().into(),
        variation_strength,
        variation_seed,
        denoise: 1.0,
    };
    let sample = |node: VariationsWithNoise| {
        let (samples, _) =
            with_model(|model| node.sample(model, &latent, &mut |_| ControlFlow::Continue(())));
        samples.unwrap()
    };
    // At 0 all items have the main seed's noise; at 1 each its own, as of a batch drawn under the variation seed; and the
    // same seed twice counts as the next.
    let none = sample(node(0.0, 4));
    assert_eq!(none.items(0..1).unwrap(), none.items(2..3).unwrap());
    let all = sample(node(1.0, 4));
    assert_ne!(all.items(0..1).unwrap(), all.items(1..2).unwrap());
    assert_eq!(all, sample(node(1.0, 3)));
    // The sampler's own noise is the profile's.
    let ancestral = |profile| {
        sample(VariationsWithNoise { profile, sampler: sampler("euler_ancestral"), ..node(0.5, 4) })
    };
    assert_ne!(ancestral(Profile::Comfyui0_3_64), ancestral(Profile::ComfyuiPost11528));
    let half = sample(node(0.5, 4));
    assert!(half != none && half != all);
    // What a mask keeps comes back as it came.
    let mask = Tensor::zeros([1, 1, 4, 4]);
    let image = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
    let (masked, _) =
        with_model(|model| node(0.5, 4).sample(model, image, &mut |_| ControlFlow::Continue(())));
    assert_eq!(masked.unwrap(), latent);
    let (refused, _) =
        with_model(|model| node(1.1, 4).sample(model, &latent, &mut |_| ControlFlow::Continue(())));
    assert!(matches!(refused, Err(Error::Value { what: "variation_strength", .. })));
    for value in [f32::NAN, 1.5] {
        let mask = Tensor::new([1, 1, 4, 4], vec![value; 16]).unwrap();
        let image = LatentImage { noise_mask: Some(&mask), ..(&latent).into() };
        let (refused, _) =
            with_model(|model| node(0.5, 4).sample(model, image, &mut |_| ControlFlow::Continue(())));
        assert!(matches!(refused, Err(Error::Value { what: "noise_mask", .. })), "{value}: {refused:?}");
    }
}

#[test]
fn settings_survive_being_written_down() {
    let options = serde_json::json!({"eta": 0.5}).as_object().unwrap().clone();
    let node = Variations {
        sampler: Sampler::with_options("dpmpp_sde", &options).unwrap(),
        cfg: 0.1 + 0.2,
        ..node()
    };
    let text = serde_json::to_string(&node).unwrap();
    assert_eq!(serde_json::from_str::<Variations>(&text).unwrap(), node, "{text}");
    let lineage = vary(&composition(), Fork::Strength(0.3), u64::MAX);
    let text = serde_json::to_string(&lineage).unwrap();
    assert_eq!(serde_json::from_str::<Lineage>(&text).unwrap(), lineage, "{text}");
    assert!(text.contains(r#""profile":"comfyui-post-11528""#), "{text}");
    let unknown = text.replace("dpmpp_2m_sde", "dpmpp_9m_sde");
    assert!(
        serde_json::from_str::<Lineage>(&unknown).unwrap_err().to_string().contains("nearest: dpmpp_2m_sde")
    );
}
