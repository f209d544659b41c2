//! Plans: what they say of themselves, that several stand side by side, and that what a run computes beforehand is what
//! it would have computed in each step.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use half::bf16;
use noisefork::cpu::{Compute, Cpu};
use noisefork::error::Error;
use noisefork::ops::{Activation, Backend};
use noisefork::sampling::{Betas, Branch, Denoiser, KSampler, Model, ModelSampling, Profile, Variations};
use noisefork::tensor::{DType, Shape, Shaped, Tensor};
use noisefork::trace::{Event, Inputs, Operation, Replay, Table, Traced};
use noisefork::unet::{Added, Plan, Prompt, UNet, UNetDenoiser};

const TOKENS: usize = 7;

fn load<B: Backend>(backend: B) -> Arc<UNet<B>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/unet_sd15");
    Arc::new(UNet::load(Arc::new(backend), folder).unwrap())
}

/// Numbers that follow from a seed.
fn noise(shape: impl Into<noisefork::tensor::Shape>, seed: u64) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    noisefork::rng::Mt19937::new(seed).randn(tensor.data_mut());
    tensor
}

/// Predictions for several inputs in turn.
fn predict<E: Compute>(
    unet: &Arc<UNet<Cpu<E>>>,
    batch: usize,
    size: [usize; 2],
    seeds: &[u64],
) -> Vec<Tensor> {
    let mut plan = unet.plan(batch, size, TOKENS).unwrap();
    let width = unet.config().cross_attention_dim();
    let conditioning = unet.prepare(&noise([1, TOKENS, width], 1), batch, None).unwrap();
    let times = unet.times(&[[900.0], [300.0]], &conditioning).unwrap();
    let mut one = |&seed: &u64| {
        let x = unet.backend().upload(&noise(plan.shape(), seed)).unwrap();
        plan.forward(&x, &times, seed as usize % 2, &conditioning).unwrap().cast()
    };
    seeds.iter().map(&mut one).collect()
}

fn plans_stand_side_by_side<E: Compute>(cpu: Cpu<E>) {
    let unet = load(cpu);
    let shapes = [(1, [16, 16]), (2, [16, 16]), (1, [9, 24]), (3, [8, 8]), (1, [16, 16])];
    let seeds = [1, 2, 3, 4];
    let alone: Vec<_> = shapes.iter().map(|&(batch, size)| predict(&unet, batch, size, &seeds)).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = shapes
            .iter()
            .map(|&(batch, size)| {
                scope.spawn({
                    let unet = &unet;
                    move || predict(unet, batch, size, &seeds)
                })
            })
            .collect();
        for (thread, alone) in threads.into_iter().zip(&alone) {
            assert!(thread.join().unwrap() == *alone, "other bits beside other plans");
        }
    });
    assert!(alone[0] == alone[4]);
}

#[test]
fn plans_on_one_model_run_at_once_and_give_the_bits_that_they_give_alone() {
    plans_stand_side_by_side(Cpu::new());
    plans_stand_side_by_side(Cpu::bf16());
}

#[test]
fn a_plan_can_be_sent_and_shared() {
    fn all<T: Send + Sync>() {}
    all::<Plan<Cpu>>();
    all::<Plan<Cpu<bf16>>>();
    all::<UNetDenoiser<Cpu>>();
}

/// What is left of a run's memory in the last one does not show in the next.
#[test]
fn a_prediction_does_not_depend_on_those_before() {
    let unet = load(Cpu::new());
    let in_turn = predict(&unet, 2, [16, 16], &[1, 2, 1, 2]);
    assert!(in_turn[0] == in_turn[2] && in_turn[1] == in_turn[3] && in_turn[0] != in_turn[1]);
    assert!(in_turn[1] == predict(&unet, 2, [16, 16], &[2])[0]);
}

#[test]
fn a_plan_says_what_it_takes() {
    let unet = load(Cpu::new());
    let [small, large] = [[16, 16], [32, 32]].map(|size| unet.plan(2, size, TOKENS).unwrap());
    assert_eq!(&*small.shape(), &[2, 16, 16, unet.config().in_channels()]);
    for plan in [&small, &large] {
        let workspace = plan.workspace();
        // The largest tensor alone, and a tenth more than what is in use at a time.
        assert!(workspace.peak > plan.shape().elements() * 4, "{workspace:?}");
        let most = workspace.peak + workspace.peak / 10;
        assert!((workspace.peak..=most).contains(&workspace.held), "{workspace:?}");
    }
    // Four times the pixels are four times the convolutions, and more of the attention.
    assert!((4 * small.flops()..16 * small.flops()).contains(&large.flops()));
    let wide = load(Cpu::bf16()).plan(2, [32, 32], TOKENS).unwrap();
    assert_eq!(wide.flops(), large.flops());
    assert!(wide.workspace().held < large.workspace().held);
}

/// A trace has every operation of a run, and its costs are those that the plan foresaw.
#[test]
fn a_trace_accounts_for_a_run() {
    let backend = Traced::new(Cpu::new());
    let unet = load(backend);
    let width = unet.config().cross_attention_dim();
    let mut plan = unet.plan(2, [16, 16], TOKENS).unwrap();
    let conditioning = unet.prepare(&noise([1, TOKENS, width], 1), 2, None).unwrap();
    let times = unet.times(&[[900.0]], &conditioning).unwrap();
    let x = unet.backend().upload(&noise(plan.shape(), 1)).unwrap();
    unet.backend().take();
    let traced = plan.forward(&x, &times, 0, &conditioning).unwrap().cast::<f32>();
    let events = unet.backend().take();
    assert_eq!(events.iter().map(|event| event.flops).sum::<u64>(), plan.flops());
    assert!(events.iter().all(|event| event.bytes > 0));

    let (shapes, operations) = (Table::by_shape(&events), Table::by_operation(&events));
    assert!(shapes.rows().len() > operations.rows().len());
    for table in [&shapes, &operations] {
        assert_eq!(table.rows().iter().map(|row| row.calls).sum::<usize>(), events.len());
        assert_eq!(table.time(), events.iter().map(|event| event.time).sum());
        assert_eq!(table.to_string().lines().count(), 1 + table.rows().len());
    }
    let text = shapes.to_string();
    for part in ["conv2d", "halved", "doubled", "group_norm", "SiLU", "attention", "GEGLU", "concat"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    // The configuration tells all of it without computing any.
    let foreseen = unet.config().operations(DType::F32, 2, [16, 16], TOKENS).unwrap();
    assert_eq!(foreseen.len(), events.len());
    for (foreseen, event) in foreseen.iter().zip(&events) {
        assert_eq!(
            (&foreseen.operation, foreseen.flops, foreseen.bytes),
            (&event.operation, event.flops, event.bytes)
        );
    }

    // And each can be run again alone.
    let replayed = Traced::new(Cpu::new());
    for Event { operation, .. } in &events {
        let inputs = Inputs::normal(operation, 1).unwrap();
        Replay::new(&replayed, operation.clone(), &inputs).unwrap().run().unwrap();
    }
    let again = replayed.take();
    assert!(events.iter().map(|event| &event.operation).eq(again.iter().map(|event| &event.operation)));
    let (Some(first), Some(last)) = (events.first(), events.last()) else { panic!("nothing ran") };
    let others = Inputs::normal(&last.operation, 1).unwrap();
    assert!(matches!(
        Replay::new(&replayed, first.operation.clone(), &others).map(|_| ()),
        Err(Error::Value { op: "replay", .. })
    ));

    // And it changes nothing.
    let plain = load(Cpu::new());
    let mut plan = plain.plan(2, [16, 16], TOKENS).unwrap();
    let conditioning = plain.prepare(&noise([1, TOKENS, width], 1), 2, None).unwrap();
    let times = plain.times(&[[900.0]], &conditioning).unwrap();
    assert!(plan.forward(&x, &times, 0, &conditioning).unwrap().cast::<f32>() == traced);
}

#[test]
fn operations_that_have_no_output_are_refused() {
    let conv2d = |x: Shape, stride| Operation::Conv2d {
        x,
        kernel: 3,
        outputs: 4,
        bias: false,
        shift: true,
        residual: true,
        activation: Activation::Identity,
        stride,
        upsample: None,
    };
    let image = Shape::from([2, 4, 4, 8]);
    for operation in [
        conv2d(image, 0),
        conv2d(image, 3),
        conv2d([4, 8].into(), 1),
        conv2d([].into(), 1),
        Operation::Leave { x: image, branches: 0 },
        Operation::Leave { x: [8].into(), branches: 1 },
        Operation::Enter { parts: vec![], copies: 1 },
        Operation::Enter { parts: vec![image, [2].into()], copies: 1 },
    ] {
        let typed = |error: &Error| matches!(error, Error::Value { .. } | Error::Shape { .. });
        let inputs = Inputs::normal(&operation, 1);
        assert!(inputs.as_ref().is_err_and(typed), "{operation:?}: {inputs:?}");
        let inputs = Inputs { tensors: vec![], weight: None };
        let refused = Replay::new(&Cpu::new(), operation.clone(), &inputs).map(drop);
        assert!(refused.as_ref().is_err_and(typed), "{operation:?}: {refused:?}");
    }
}

/// A denoiser that counts.
struct Watched {
    inner: UNetDenoiser<Cpu>,
    announced: Vec<Vec<f64>>,
    asked: Vec<(usize, f64, usize)>,
    /// Whether what is announced is passed on.
    deaf: bool,
}

impl Denoiser<Cpu> for Watched {
    fn announce(&mut self, levels: &[f64]) {
        self.announced.push(levels.to_vec());
        if !self.deaf {
            self.inner.announce(levels);
        }
    }
    fn denoise(
        &mut self,
        x: &Tensor,
        sigma: f64,
        branches: &[Branch],
        denoised: &mut [Tensor],
    ) -> noisefork::error::Result<()> {
        self.asked.push((x.shape()[0], sigma, branches.len()));
        self.inner.denoise(x, sigma, branches, denoised)
    }
}

fn watched(unet: &Arc<UNet<Cpu>>, deaf: bool) -> Model<'_, Cpu, Watched> {
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    let prompt =
        |seed| Prompt { context: noise([1, TOKENS, unet.config().cross_attention_dim()], seed), added: None };
    let inner = UNetDenoiser::new(unet.clone(), sampling.clone(), prompt(1), prompt(2)).unwrap();
    let denoiser = Watched { inner, announced: Vec::new(), asked: Vec::new(), deaf };
    Model { backend: &**unet.backend(), denoiser, sampling, latent_scale: 1.0 }
}

/// A denoiser of this golden model under two prompts.
fn denoiser(name: &str, positive: Prompt, negative: Prompt) -> Result<(), Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let unet = Arc::new(UNet::load(Arc::new(Cpu::new()), folder).unwrap());
    let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
    UNetDenoiser::new(unet, sampling, positive, negative).map(drop)
}

#[test]
fn prompts_fit_the_model_and_each_other() {
    let prompt = |width, added: Option<(usize, usize)>| Prompt {
        context: noise([1, TOKENS, width], 1),
        added: added.map(|(text, numbers)| Added {
            text_embeds: noise([1, text], 2),
            time_ids: noise([1, numbers], 3),
        }),
    };
    let sd15 = |positive, negative| denoiser("unet_sd15", prompt(48, positive), prompt(48, negative));
    let sdxl = |positive, negative| denoiser("unet_sdxl", prompt(64, positive), prompt(64, negative));
    let fit = Some((40, 6));
    assert_eq!((sd15(None, None), sdxl(fit, fit)), (Ok(()), Ok(())));

    for (positive, negative) in [(None, fit), (fit, None), (fit, fit)] {
        let refusal = sd15(positive, negative);
        assert!(matches!(refusal, Err(Error::Value { what: "added", .. })), "{refusal:?}");
    }
    for (positive, negative) in [(None, fit), (fit, None), (None, None)] {
        let refusal = sdxl(positive, negative);
        assert!(matches!(refusal, Err(Error::Value { what: "added", .. })), "{refusal:?}");
    }
    let misshapen = |refusal: Result<(), Error>| match refusal {
        Err(Error::Shape { tensor, .. }) => tensor,
        other => panic!("{other:?}"),
    };
    assert_eq!(misshapen(sdxl(Some((41, 6)), Some((41, 6)))), "text_embeds");
    assert_eq!(misshapen(sdxl(fit, Some((41, 6)))), "text_embeds");
    assert_eq!(misshapen(sdxl(fit, Some((48, 5)))), "time_ids");
    assert_eq!(misshapen(sdxl(Some((40, 60)), Some((40, 60)))), "time_ids");
    assert_eq!(misshapen(sdxl(Some((40, 0)), Some((40, 0)))), "time_ids");
    assert_eq!(misshapen(denoiser("unet_sd15", prompt(47, None), prompt(47, None))), "context");
    assert_eq!(misshapen(denoiser("unet_sd15", prompt(48, None), prompt(47, None))), "context");
    let longer = Prompt { context: noise([1, TOKENS + 1, 48], 1), added: None };
    assert_eq!(misshapen(denoiser("unet_sd15", prompt(48, None), longer)), "context");
}

#[test]
fn a_model_of_more_than_latents_is_no_denoiser() {
    let prompt = Prompt { context: noise([1, TOKENS, 32], 1), added: None };
    let refusal = denoiser("unet_sd15_inpaint", prompt.clone(), prompt).unwrap_err();
    let text = "unet: in_channels must be out_channels = 4 for a denoiser of latents alone, got 9";
    assert_eq!(refusal.to_string(), text);
}

#[test]
fn a_run_announces_the_levels_that_it_asks_for_and_gives_the_same_bits_unannounced() {
    let unet = load(Cpu::new());
    let latent = Tensor::zeros([2, 4, 8, 8]);
    for (name, parts) in [("euler", 1), ("dpmpp_2m_sde", 1), ("dpm_adaptive", 2)] {
        let run = KSampler::new(3, 5, 4.0, name.parse().unwrap(), "karras".parse().unwrap());
        let [heard, unheard] = [false, true].map(|deaf| {
            let mut model = watched(&unet, deaf);
            let samples = run.sample(&mut model, &latent, &mut |_| ControlFlow::Continue(())).unwrap();
            let Watched { announced, asked, .. } = model.denoiser;
            assert!(announced.len() >= parts, "{name}: {announced:?}");
            let asked: Vec<f64> = asked.into_iter().map(|(_, sigma, _)| sigma).collect();
            assert_eq!(announced.concat(), asked, "{name}");
            samples
        });
        assert!(heard == unheard, "{name}: other bits for levels that were not announced");
    }
}

#[test]
fn a_variation_composes_one_item_and_without_guidance_asks_for_one_branch() {
    let unet = load(Cpu::new());
    let node = Variations {
        profile: Profile::default(),
        noise_seed: 1,
        steps: 6,
        cfg: 1.0,
        sampler: "euler".parse().unwrap(),
        scheduler: "normal".parse().unwrap(),
        variation_seed: 2,
        variation_strength: 0.5,
        cfg_scale: 1.0,
    };
    let mut model = watched(&unet, false);
    node.sample(&mut model, &Tensor::zeros([4, 4, 8, 8]), &mut |_| ControlFlow::Continue(())).unwrap();
    let fork = node.fork_step().unwrap();
    let asked: Vec<(usize, usize)> =
        model.denoiser.asked.iter().map(|&(n, _, branches)| (n, branches)).collect();
    assert_eq!(asked[..fork], vec![(1, 1); fork]);
    assert!(asked.len() > fork && asked[fork..].iter().all(|&asked| asked == (4, 1)), "{asked:?}");

    let guided = Variations { cfg: 3.0, ..node };
    let mut model = watched(&unet, false);
    guided.sample(&mut model, &Tensor::zeros([4, 4, 8, 8]), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(model.denoiser.asked.iter().all(|&(_, _, branches)| branches == 2));
}

#[test]
fn a_denoiser_keeps_few_plans_and_answers_as_before() {
    let unet = load(Cpu::new());
    let mut model = watched(&unet, false);
    let before = Arc::strong_count(&unet);
    let mut answer = |items: usize| {
        let x = noise([items, 4, 8, 8], items as u64);
        let mut denoised = [Tensor::zeros(x.shape())];
        model.denoiser.inner.denoise(&x, 2.0, &[Branch::Positive], &mut denoised).unwrap();
        denoised
    };
    let first = answer(1);
    for items in 2..8 {
        answer(items);
        // Each plan holds the model.
        assert!(Arc::strong_count(&unet) - before <= 4, "{items} shapes");
    }
    assert_eq!(Arc::strong_count(&unet) - before, 4);
    assert!(answer(1) == first);
}
