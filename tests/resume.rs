//! A run can stop anywhere and go on from what it wrote down, in another process for all it knows, with the bits of a run
//! that never stopped.

mod support;

use std::ops::ControlFlow;
use std::sync::mpsc;

use noisefork::error::{Error, Result};
use noisefork::reference::Reference;
use noisefork::rng::{BrownianNoise, Mt19937};
use noisefork::sampling::program::{Builder, Program, Slot, Value};
use noisefork::sampling::samplers::{Algorithm, NoiseKind, Properties};
use noisefork::sampling::{
    Betas, Branch, Cancel, KSampler, LatentImage, Model, ModelSampling, NoiseSource, NoiseState, Part,
    Profile, Progress, Run, Sampler, Scheduler,
};
use noisefork::tensor::Tensor;
use serde_json::json;
use support::report::report;
use support::toy::Toy;

type Cpu = Reference<f32>;

static BACKEND: Cpu = Cpu::new();

/// All that a run leaves.
#[derive(Debug, PartialEq)]
struct Trace {
    samples: Tensor,
    /// What the observer was shown: step, steps, level, noisy and clean latent.
    shown: Vec<(usize, usize, u64, Tensor, Tensor)>,
    /// Everything after the last step: slots, noise position, measured errors.
    end: Vec<u8>,
    calls: usize,
}

/// What is run, on what.
struct Case<'a> {
    ksampler: KSampler,
    sampling: ModelSampling,
    latent: LatentImage<'a>,
}

impl Case<'_> {
    fn model(&self) -> Model<'static, Cpu, Toy> {
        Model {
            backend: &BACKEND,
            denoiser: Toy { calls: 0 },
            sampling: self.sampling.clone(),
            latent_scale: 0.18215,
        }
    }

    /// Runs, and after every `every` calls of [`Run::step`] drops the run and takes it up from its snapshot; with `cancels`
    /// its observer breaks in every step, so that runs stop in the middle of steps too.
    fn run(&self, every: usize, cancels: bool) -> Trace {
        let mut shown = Vec::new();
        let mut observe = |progress: &Progress<'_, Cpu>| {
            let &Progress { step, of, sigma, x, denoised } = progress;
            shown.push((step, of, sigma.to_bits(), x.clone(), denoised.clone()));
            if cancels { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut calls = 0;
        let mut model = self.model();
        let mut bytes = self.ksampler.start(&mut model, self.latent).unwrap().unwrap().snapshot().unwrap();
        loop {
            let mut toy = Toy { calls: 0 };
            let mut run = Run::resume(&BACKEND, &mut toy, &bytes).unwrap();
            let more = (0..every).all(|_| match run.step(&mut observe) {
                Ok(more) => more,
                Err(Error::Cancelled { .. }) if cancels => true,
                Err(error) => panic!("{error}"),
            });
            bytes = run.snapshot().unwrap();
            if !more {
                let samples = run.finish(&mut observe).unwrap();
                calls += toy.calls;
                return Trace { samples, shown, end: bytes, calls };
            }
            calls += toy.calls;
        }
    }

    /// Runs without a stop, by a way that knows of no snapshots but the last.
    fn run_whole(&self) -> Trace {
        let mut shown = Vec::new();
        let mut model = self.model();
        let mut run = self.ksampler.start(&mut model, self.latent).unwrap().unwrap();
        let mut observe = |progress: &Progress<'_, Cpu>| {
            let &Progress { step, of, sigma, x, denoised } = progress;
            shown.push((step, of, sigma.to_bits(), x.clone(), denoised.clone()));
            ControlFlow::Continue(())
        };
        while run.step(&mut observe).unwrap() {}
        let end = run.snapshot().unwrap();
        let samples = run.finish(&mut observe).unwrap();
        Trace { samples, shown, end, calls: model.denoiser.calls }
    }

    /// Asserts that stopping changes nothing, and returns how often it was tried.
    fn assert_resumes(&self) -> usize {
        let what = format!("{:?} at cfg {}", self.ksampler.sampler, self.ksampler.cfg);
        let whole = self.run_whole();
        let at_once =
            self.ksampler.sample(&mut self.model(), self.latent, &mut |_| ControlFlow::Continue(()));
        assert_eq!(at_once.unwrap(), whole.samples, "{what}, at once");
        let program = self.ksampler.plan(&self.sampling).unwrap().unwrap().program().clone();
        if !program.is_open() {
            assert_eq!(program.model_calls(), whole.calls, "{what}: model calls");
            assert_eq!(program.steps().len(), whole.shown.last().unwrap().1, "{what}: steps");
        }
        for every in [1, 2, 3, 7] {
            for cancels in [false, true] {
                assert!(self.run(every, cancels) == whole, "{what}, every {every}, cancelled {cancels}");
            }
        }
        8
    }
}

fn eps() -> ModelSampling {
    ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap()
}

fn ksampler(sampler: Sampler, steps: usize) -> KSampler {
    KSampler::new(21, steps, 2.5, sampler, Scheduler::Normal)
}

fn with_options(name: &str, options: &serde_json::Value) -> Sampler {
    Sampler::with_options(name, options.as_object().unwrap()).unwrap()
}

/// Latents whose noise is drawn in torch's two ways: in blocks of 16, and in pairs of which one is left over.
fn latents() -> [Tensor; 2] {
    [[2, 4, 2, 3], [1, 1, 1, 5]].map(|shape| {
        let mut latent = Tensor::zeros(shape);
        Mt19937::new(3).randn(latent.data_mut());
        latent
    })
}

#[test]
fn every_sampler_goes_on_with_the_same_bits() {
    let mut runs = 0;
    for sampler in Sampler::names().map(|name| name.parse::<Sampler>().unwrap()) {
        for sampling in [eps(), ModelSampling::flow(3.0).unwrap()] {
            if sampling.noise_scaling(0.5).1 != 1.0 && !sampler.properties().flow {
                continue;
            }
            for latent in &latents() {
                let (ksampler, sampling) = (ksampler(sampler.clone(), 6), sampling.clone());
                runs += Case { ksampler, sampling, latent: latent.into() }.assert_resumes();
            }
        }
    }
    assert_eq!(runs, 1328);
    report(format_args!("resume: {runs} runs stopped and resumed, {} samplers", Sampler::names().count()));
}

#[test]
fn so_do_options_masks_parts_and_profiles() {
    let [latent, small] = latents();
    let mut mask = Tensor::zeros([1, 1, 2, 3]);
    mask.data_mut().copy_from_slice(&[0.0, 1.0, 0.3, 1.0, 0.0, 0.9]);
    let part = Some(Part { first: 1, of: 5 });
    let churn = json!({"s_churn": 12.0, "s_noise": 1.01});
    let samplers = [
        with_options("euler", &churn),
        with_options("heun", &churn),
        with_options("dpm_2", &churn),
        with_options("dpm_adaptive", &json!({"eta": 0.8, "order": 2})),
        with_options("dpm_adaptive", &json!({"rtol": 0.3, "pcoeff": 0.2})),
        with_options("dpmpp_2m_sde", &json!({"eta": 0.5})),
        with_options("uni_pc", &json!({})),
        with_options("euler_ancestral_cfg_pp", &json!({})),
    ];
    for sampler in samplers {
        let usual = ksampler(sampler, 7);
        let whole = LatentImage::from(&latent);
        let cases = [
            (usual.clone(), LatentImage::from(&small)),
            (usual.clone(), LatentImage { noise_mask: Some(&mask), ..whole }),
            (usual.clone(), LatentImage { part, ..whole }),
            (usual.clone(), LatentImage { part, noise_mask: Some(&mask), ..whole }),
            (usual.clone(), LatentImage { batch_index: Some(&[4, 1]), ..whole }),
            (KSampler { cfg: 1.0, ..usual.clone() }, whole),
            (KSampler { profile: Profile::ComfyuiPost11528, ..usual.clone() }, whole),
            (KSampler { start_step: 2, last_step: Some(6), ..usual.clone() }, whole),
            (KSampler { denoise: 0.6, ..usual }, whole),
        ];
        for (ksampler, latent) in cases {
            Case { ksampler, sampling: eps(), latent }.assert_resumes();
        }
    }
}

#[test]
fn so_does_noise_per_item() {
    let sigmas = Scheduler::Normal.sigmas(&eps(), 5).unwrap();
    let sampler: Sampler = "euler_ancestral".parse().unwrap();
    let source = || {
        let mut started = Mt19937::new(8);
        started.randn(&mut [0.0; 3]);
        let paths = BrownianNoise::new(9, 5, sigmas[4], sigmas[0]).unwrap();
        let items = vec![started.state().unwrap(), paths.state().unwrap()];
        NoiseState::PerItem(items).source(10).unwrap()
    };
    let run = |stops: bool| {
        let program = sampler.program(&eps(), &sigmas).unwrap();
        let (mut toy, mut other) = (Toy { calls: 0 }, Toy { calls: 0 });
        let start = Tensor::new([2, 1, 1, 5], vec![3.0; 10]).unwrap();
        let mut run = Run::new(&BACKEND, &mut toy, program, start, 1.0, source()).unwrap();
        let mut observe = |_: &Progress<'_, Cpu>| ControlFlow::Continue(());
        if stops {
            run.step(&mut observe).unwrap();
            let bytes = run.snapshot().unwrap();
            run = Run::resume(&BACKEND, &mut other, &bytes).unwrap();
        }
        run.finish(&mut observe).unwrap()
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_run_can_be_looked_at_between_steps() {
    let [latent, _] = latents();
    let case =
        Case { ksampler: ksampler("heun".parse().unwrap(), 4), sampling: eps(), latent: (&latent).into() };
    let levels = case.ksampler.plan(&case.sampling).unwrap().unwrap().sigmas().to_vec();
    let mut model = case.model();
    let mut run = case.ksampler.start(&mut model, case.latent).unwrap().unwrap();
    for (done, &level) in levels.iter().take(4).enumerate() {
        assert_eq!((run.done(), run.of(), run.sigma()), (done, 4, Some(f64::from(level))));
        let slots = run.program().slots();
        assert!(run.slot(Slot(slots - 1)).is_some() && run.slot(Slot(slots)).is_none());
        assert_eq!(run.step(&mut |_| ControlFlow::Continue(())), Ok(done < 3));
    }
    assert_eq!((run.done(), run.sigma()), (4, None));
    assert_eq!(run.step(&mut |_| ControlFlow::Continue(())), Ok(false));
    assert_eq!(run.slot(run.program().result()).map(|result| result.data().len()), Some(48));
}

#[test]
fn another_thread_stops_a_run_and_nothing_is_lost() {
    let [latent, _] = latents();
    let run = ksampler("dpmpp_sde".parse().unwrap(), 6);
    let answer = |x: &Tensor, out: &mut Tensor| {
        out.data_mut().iter_mut().zip(x.data()).for_each(|(out, x)| *out = (x * 0.3).sin());
    };
    let sample = |cancelled_at: Option<usize>| {
        let cancel = Cancel::default();
        let (asked, asks) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        let other = cancel.clone();
        let thread = std::thread::spawn(move || {
            for () in asks {
                other.cancel();
                answered.send(()).unwrap();
            }
        });
        let mut calls = 0;
        let denoiser = |x: &Tensor, _: f64, branch: Branch, out: &mut Tensor| {
            calls += usize::from(branch == Branch::Positive);
            if Some(calls) == cancelled_at && branch == Branch::Positive {
                asked.send(()).unwrap();
                answers.recv().unwrap();
            }
            answer(x, out);
            Ok(())
        };
        let mut model = Model { backend: &BACKEND, denoiser, sampling: eps(), latent_scale: 1.0 };
        let mut run = run.start(&mut model, &latent).unwrap().unwrap();
        let stopped = loop {
            match run.step(&mut |_| cancel.flow()) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
        let samples = run.finish(&mut |_| ControlFlow::Continue(())).unwrap();
        drop(model);
        drop(asked);
        thread.join().unwrap();
        (samples, stopped)
    };
    let (whole, stopped) = sample(None);
    assert_eq!(stopped, None);
    // The first call of step 3, and the second: then the observer of step 4 is the next to look.
    for (call, done) in [(5, 2), (6, 3)] {
        assert_eq!(sample(Some(call)), (whole.clone(), Some(Error::Cancelled { done, of: 6 })));
    }
}

#[test]
fn a_model_that_failed_is_asked_again() {
    let [latent, _] = latents();
    for name in ["heun", "dpmpp_2s_ancestral", "dpm_adaptive", "res_multistep_cfg_pp"] {
        let sample = |fails: bool| {
            let mut calls = 0;
            let denoiser = |x: &Tensor, _: f64, _: Branch, out: &mut Tensor| {
                calls += 1;
                if fails && calls % 3 == 0 {
                    return Err(Error::Cancelled { done: 0, of: 0 });
                }
                out.data_mut().iter_mut().zip(x.data()).for_each(|(out, x)| *out = (x * 0.3).sin());
                Ok(())
            };
            let mut model = Model { backend: &BACKEND, denoiser, sampling: eps(), latent_scale: 1.0 };
            let run = ksampler(name.parse().unwrap(), 5);
            let mut run = run.start(&mut model, &latent).unwrap().unwrap();
            while run.step(&mut |_| ControlFlow::Continue(())).unwrap_or(true) {}
            run.finish(&mut |_| ControlFlow::Continue(())).unwrap()
        };
        assert_eq!(sample(true), sample(false), "{name}");
    }
}

/// Noise and an algorithm of the caller's own.
#[derive(Debug)]
struct Own;

impl NoiseSource for Own {
    fn draw(&mut self, _: f64, _: f64, out: &mut [f32]) -> Result<()> {
        out.fill(0.5);
        Ok(())
    }
}

impl Algorithm for Own {
    fn properties(&self) -> Properties {
        Properties::new(1, 1, NoiseKind::None)
    }

    fn write(&self, _: &ModelSampling, sigmas: &[f64], p: &mut Builder) -> Result<Value> {
        Ok(p.denoise(p.start(), sigmas[0]))
    }
}

#[test]
fn what_cannot_be_written_down_is_refused() {
    let refused = |sampler: Sampler, noise: Box<dyn NoiseSource>| {
        let program: Program = sampler.program(&eps(), &[2.0, 1.0]).unwrap();
        let mut toy = Toy { calls: 0 };
        let run = Run::new(&BACKEND, &mut toy, program, Tensor::zeros([1, 1, 1, 5]), 1.0, noise).unwrap();
        run.snapshot().map(drop)
    };
    let known = || "euler".parse().unwrap();
    assert_eq!(refused(known(), Box::new(Mt19937::new(1))), Ok(()));
    let own_noise = refused(known(), Box::new(Own));
    assert!(matches!(own_noise, Err(Error::Value { op: "snapshot", what: "noise", .. })), "{own_noise:?}");
    // Named as one that is known, but not it.
    let own_sampler = refused(Sampler::new("euler", Own), Box::new(Mt19937::new(1)));
    assert!(
        matches!(own_sampler, Err(Error::Value { op: "snapshot", what: "sampler", .. })),
        "{own_sampler:?}"
    );
}
