//! The tiny autoencoder against diffusers, both ways.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use noisefork::autoencoder::AutoencoderTiny;
use noisefork::cpu::Cpu;
use noisefork::error::Error;
use noisefork::nn::Weights;
use noisefork::ops::Backend;
use noisefork::reference::Reference;
use noisefork::tensor::{Shaped, Tensor};
use support::compare::{assert_close_l2, relative_l2};
use support::emulated::Emulated;
use support::report::report;

/// Relative L2 error allowed.
const TOLERANCE: f64 = 2e-6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/autoencoder_tiny")
}

fn load<B: Backend>(backend: B) -> AutoencoderTiny<B> {
    AutoencoderTiny::load(Arc::new(backend), folder()).unwrap()
}

#[cfg(feature = "cuda")]
#[test]
fn matches_diffusers_on_a_gpu() {
    if let Some(gpu) = support::gpu::cuda::<f32>("matches_diffusers_on_a_gpu") {
        check("cuda", gpu);
    }
}

fn check<B: Backend>(name: &str, backend: B) {
    let golden = Weights::open(folder().join("reference.safetensors")).unwrap();
    let tensor = |name, shape: [usize; 4]| golden.tensor(name, shape).unwrap();
    let model = load(backend);
    let check = |what, got: Tensor, want: Tensor| {
        assert_eq!(got.shape(), want.shape(), "{what}");
        assert_close_l2(what, got.data(), want.data(), TOLERANCE);
        report(format!("autoencoder: {name} {what}, error {:.1e}", relative_l2(got.data(), want.data())));
    };
    let z = tensor("z", [2, 4, 9, 13]);
    check("decoded", model.decode(&z).unwrap(), tensor("decoded", [2, 3, 36, 52]));
    let image = tensor("image", [2, 3, 24, 40]);
    check("encoded", model.encode(&image).unwrap(), tensor("encoded", [2, 4, 6, 10]));
    golden.expect_all_used().unwrap();
}

#[test]
fn matches_diffusers() {
    check("f32", Cpu::new());
}

#[test]
fn matches_diffusers_on_emulated_cuda() {
    check("emulated CUDA", Emulated::cuda::<f32>(1));
}

#[test]
fn matches_diffusers_in_f64() {
    check("f64", Reference::<f64>::new());
}

#[test]
fn sizes_double_exactly_and_halve_rounded_up() {
    let model = load(Cpu::new());
    assert_eq!(model.factor(), 4);
    assert_eq!(model.decode(&Tensor::zeros([1, 4, 1, 3])).unwrap().shape(), [1, 3, 4, 12].into());
    assert_eq!(model.encode(&Tensor::zeros([1, 3, 5, 9])).unwrap().shape(), [1, 4, 2, 3].into());
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let model = load(Cpu::new());
    let refusal = |result: Result<Tensor, Error>| match result {
        Err(Error::Shape { op: "autoencoder", tensor, .. }) => tensor,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(model.decode(&Tensor::zeros([1, 3, 8, 8]))), "latent");
    assert_eq!(refusal(model.decode(&Tensor::zeros([4, 8, 8]))), "latent");
    assert_eq!(refusal(model.decode(&Tensor::zeros([0, 4, 8, 8]))), "latent");
    assert_eq!(refusal(model.encode(&Tensor::zeros([1, 4, 8, 8]))), "image");
    assert_eq!(refusal(model.encode(&Tensor::zeros([1, 3, 0, 8]))), "image");
}
