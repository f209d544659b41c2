//! The variation node on the trained emoji model, against ComfyUI 0.3.64 and ComfyUI_essentials 33ff89f:
//! `tests/golden/variations_emoji.safetensors`.

mod support;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use noisefork::cpu::Cpu;
use noisefork::nn::Weights;
use noisefork::sampling::{Betas, Model, ModelSampling, Variations};
use noisefork::unet::{Prompt, UNet, UNetDenoiser};
use noisefork::words::Words;
use support::compare::{assert_close_l2, relative_l2};
use support::golden::Golden;

const TOLERANCE: f64 = 2e-3;

#[test]
fn the_variation_node() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/emoji/unet");
    let backend = Arc::new(Cpu::new());
    let unet = Arc::new(UNet::load(backend.clone(), &folder).unwrap());
    let json = std::fs::read_to_string(folder.join("words.json")).unwrap();
    let table = Weights::open(folder.join("words.safetensors")).unwrap();
    let words = Words::from_parts(&folder, &json, &table, unet.config().cross_attention_dim()).unwrap();
    let prompt = |text: &str| Prompt { context: words.context(text).unwrap(), added: None };

    let golden = Golden::open("variations_emoji");
    let (mut ran, mut worst) = (0, 0f64);
    for case in golden.cases() {
        let node = Variations {
            noise_seed: case.seed("noise_seed"),
            steps: case.usize("steps"),
            cfg: case.f64("cfg"),
            sampler: case.str("sampler").parse().unwrap(),
            scheduler: case.str("scheduler").parse().unwrap(),
            variation_seed: case.seed("variation_seed"),
            variation_strength: case.f64("variation_strength"),
            cfg_scale: case.f64("cfg_scale"),
        };
        let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION).unwrap();
        let denoiser =
            UNetDenoiser::new(unet.clone(), sampling.clone(), prompt(case.str("prompt")), prompt(""));
        let denoiser = denoiser.unwrap();
        let mut model = Model { backend: &*backend, denoiser, sampling, latent_scale: 1.0 };
        let samples =
            node.sample(&mut model, &case.tensor("latent"), &mut |_| ControlFlow::Continue(())).unwrap();
        let want = case.tensor("samples");
        assert_close_l2(&case.to_string(), samples.data(), want.data(), TOLERANCE);
        worst = worst.max(relative_l2(samples.data(), want.data()));
        ran += 1;
    }
    println!("variations: {ran} cases on the emoji model, worst relative L2 error {worst:.1e}");
    assert_eq!(ran, 30);
}
