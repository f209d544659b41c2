//! What no file may do: end in anything but a model or a typed error. The fuzz targets and `tests/fuzz_corpus.rs` call
//! these functions.
#![allow(dead_code, reason = "each target uses a part of it")]

use std::sync::Arc;

use noisefork::autoencoder::{self, AutoencoderTiny};
use noisefork::cpu::Cpu;
use noisefork::error::{Error, Result};
use noisefork::nn::Weights;
use noisefork::tensor::{Shape, Shaped};
use noisefork::unet::{self, UNet};

/// The bytes of a safetensors file: every tensor is read, then both kinds of models are looked for and loaded.
pub fn weights(bytes: &[u8]) {
    let Some(weights) = told(Weights::from_bytes("fuzzed", bytes.to_vec())) else { return };
    for name in weights.names() {
        let shape = weights.shape(name).expect("a tensor of the file");
        let Some(shape) = Shape::try_from_slice(shape) else { continue };
        match weights.tensor(name, shape) {
            Ok(tensor) => assert_eq!(tensor.shape(), shape, "{name}"),
            Err(Error::FileTensor { .. }) => {}
            Err(other) => panic!("{name}: {other}"),
        }
    }
    told(weights.expect_all_used());
    told(unet::model_sampling(&weights));
    if let Some(config) = told(unet::Config::from_weights(&weights)) {
        told(UNet::from_parts(Arc::new(Cpu::new()), config, &weights));
    }
    if let Some(config) = told(autoencoder::Config::from_weights(&weights)) {
        told(AutoencoderTiny::from_parts(Arc::new(Cpu::new()), config, &weights));
    }
}

/// The text of a `config.json`, as that of either model, of which a file without tensors then lacks some.
pub fn config(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let empty = Weights::from_bytes("empty", &b"\x02\0\0\0\0\0\0\0{}"[..]).expect("a safetensors file");
    if let Some(config) = told(unet::Config::from_json(text)) {
        let unet = UNet::from_parts(Arc::new(Cpu::new()), config, &empty).map(drop);
        assert!(matches!(unet, Err(Error::MissingTensor { .. })), "{unet:?}");
    }
    if let Some(config) = told(autoencoder::Config::from_json(text)) {
        let autoencoder = AutoencoderTiny::from_parts(Arc::new(Cpu::new()), config, &empty).map(drop);
        assert!(matches!(autoencoder, Err(Error::MissingTensor { .. })), "{autoencoder:?}");
    }
}

/// What came, or nothing if it was an error that can be told.
fn told<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()
}
