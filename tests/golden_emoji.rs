//! The variation node on the trained emoji model, against ComfyUI 0.3.64 and ComfyUI_essentials 33ff89f:
//! `tests/golden/variations_emoji.safetensors`.

mod support;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use noisefork::cpu::Cpu;
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::sampling::{Betas, Model, ModelSampling};
use noisefork::tensor::Tensor;
use noisefork::unet::{Prompt, UNet, UNetDenoiser};
use noisefork::words::Words;
use support::compare::{assert_close_l2, relative_l2};
use support::emulated::Emulated;
use support::golden::{Case, Golden};
use support::report::report;

const TOLERANCE: f64 = 2e-3;

/// The model in `assets/emoji`.
struct Emoji<B: Backend> {
    unet: Arc<UNet<B>>,
    words: Words,
}

impl<B: Backend> Emoji<B> {
    fn open(backend: B) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/emoji/unet");
        let unet = Arc::new(UNet::load(Arc::new(backend), &folder).unwrap());
        let json = std::fs::read_to_string(folder.join("words.json")).unwrap();
        let table = Weights::open(folder.join("words.safetensors")).unwrap();
        let words = Words::from_parts(&folder, &json, &table, unet.config().cross_attention_dim()).unwrap();
        Emoji { unet, words }
    }

    fn sample(&self, case: &Case) -> Tensor {
        let prompt = |text: &str| Prompt { context: self.words.context(text).unwrap(), added: None };
        let (positive, negative) = (prompt(case.str("prompt")), prompt(""));
        let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
        let denoiser = UNetDenoiser::new(self.unet.clone(), sampling.clone(), positive, negative).unwrap();
        let mut model = Model { backend: &**self.unet.backend(), denoiser, sampling, latent_scale: 1.0 };
        case.variations()
            .sample(&mut model, &case.tensor("latent"), &mut |_| ControlFlow::Continue(()))
            .unwrap()
    }
}

/// Runs the cases of at most so many steps; returns how many there were.
fn check<B: Backend>(backend: B, what: &str, most_steps: usize) -> usize {
    let (emoji, golden) = (Emoji::open(backend), Golden::open("variations_emoji"));
    let (mut ran, mut worst) = (0, 0f64);
    for case in golden.cases().iter().filter(|case| case.usize("steps") <= most_steps) {
        let (samples, want) = (emoji.sample(case), case.tensor("samples"));
        assert_close_l2(&format!("{what}, {case}"), samples.data(), want.data(), TOLERANCE);
        worst = worst.max(relative_l2(samples.data(), want.data()));
        ran += 1;
    }
    report(format!(
        "variations: {ran} cases on the emoji model, {what}, worst relative L2 error {worst:.1e}"
    ));
    ran
}

#[test]
fn the_variation_node() {
    assert_eq!(check(Cpu::new(), "on the CPU", usize::MAX), 30);
}

/// The shortest cases: the emulator has no time for all.
#[test]
fn the_variation_node_on_emulated_cuda() {
    assert_eq!(check(Emulated::cuda::<f32>(1), "on emulated CUDA", 2), 2);
}

#[cfg(feature = "cuda")]
#[test]
fn the_variation_node_on_a_gpu() {
    if let Some(gpu) = support::gpu::cuda::<f32>("the_variation_node_on_a_gpu") {
        assert_eq!(check(gpu, "on a GPU", usize::MAX), 30);
    }
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    let (emoji, golden) = (Emoji::open(Cpu::new()), Golden::open("variations_emoji"));
    let case = &golden.cases()[0];
    let [first, others @ ..] = [1, 2, 3, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| emoji.sample(case))
    });
    others.iter().for_each(|other| assert_eq!(*other, first));
}
