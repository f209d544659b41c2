//! A run written down between two instructions, and taken up again: safetensors bytes, the latents as tensors and the rest
//! as JSON in their metadata.

use std::collections::HashMap;
use std::fmt::Display;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::denoiser::Denoiser;
use super::ksampler::{expect_mask, upload};
use super::noise::NoiseState;
use super::program::{Program, Record};
use super::run::{Inpaint, Machine, Position, Run};
use crate::error::{Error, Result};
use crate::ops::{Backend, Blend};
use crate::tensor::{Shape, Shaped, Tensor};

const OP: &str = "snapshot";
/// Where in the metadata the settings are.
const SETTINGS: &str = "noisefork.run";
/// Of the settings and the tensors beside them.
const VERSION: u32 = 1;

/// All of a run but its latents.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    version: u32,
    program: Record,
    position: Position,
    /// What was measured last; absent for what is not finite.
    error: Option<f64>,
    cfg: f64,
    share: f64,
    noise: NoiseState,
}

impl<'a, B: Backend, D: Denoiser<B>> Run<'a, B, D> {
    /// All that [`Run::resume`] needs to go on from here with the same bits, as a safetensors file.
    ///
    /// # Errors
    /// [`Error::Value`] for a sampler that is not among [`Sampler::names`](super::Sampler::names), whose steps a file
    /// cannot tell, and for a noise source that has no [state](super::NoiseSource::state); what the backend reports.
    pub fn snapshot(&self) -> Result<Vec<u8>> {
        let Run { machine, program, position, share } = self;
        program.source().sampler.expect_known(OP)?;
        let Some(noise) = machine.noise.state() else {
            return refused("noise", "a source that tells its state", "one that does not");
        };
        let settings = Settings {
            version: VERSION,
            program: program.record(),
            position: *position,
            error: Some(machine.error).filter(|error| error.is_finite()),
            cfg: machine.cfg,
            share: *share,
            noise,
        };
        // By way of a value: f32 numbers then become the f64 that they are, not the shortest text.
        let settings = serde_json::to_value(settings).map_err(|error| unwritable(&error))?.to_string();

        let read = |name: &str, latent| Ok((name.to_owned(), machine.backend.read_latent(latent)?));
        let slots = machine.slots.iter().enumerate().map(|(slot, latent)| read(&name_of(slot), latent));
        let mut tensors = slots.collect::<Result<Vec<_>>>()?;
        if let Some(Inpaint { mask, kept, noise, .. }) = &machine.inpaint {
            for (name, latent) in [("mask", mask), ("kept", kept), ("noise", noise)] {
                tensors.push(read(name, latent)?);
            }
        }
        write(&tensors, settings).map_err(|error| unwritable(&error))
    }

    /// The run that [`Run::snapshot`] wrote down. The model must be the one that it ran on; nothing else is left to choose.
    ///
    /// # Errors
    /// [`Error::Value`] and [`Error::Shape`] for bytes that are no snapshot of a run, or one of another version; those of
    /// [`Run::new`].
    pub fn resume(backend: &'a B, denoiser: &'a mut D, bytes: &[u8]) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| unreadable(&error))?;
        let settings = metadata.metadata().as_ref().and_then(|metadata| metadata.get(SETTINGS));
        let settings = settings.ok_or_else(|| unreadable(&format!("no {SETTINGS:?} in its metadata")))?;
        let settings: Settings = serde_json::from_str(settings).map_err(|error| unreadable(&error))?;
        let Settings { version, program, position, error, cfg, share, noise } = settings;
        if version != VERSION {
            return refused("version", VERSION, version);
        }
        let program = program.program()?;
        expect_position(&program, position)?;

        let tensors = SafeTensors::deserialize(bytes).map_err(|error| unreadable(&error))?;
        let inpaints = tensors.tensor("mask").is_ok();
        let expected = program.slots() + if inpaints { 3 } else { 0 };
        if tensors.len() != expected {
            return refused("number of tensors", expected, tensors.len());
        }
        let start = read(&tensors, &name_of(0))?;
        let shape = start.shape();
        if shape.len() != 4 || shape.contains(&0) {
            let expected = "[N, C, H, W], none of them 0".into();
            return Err(Error::Shape { op: OP, tensor: "slot", expected, got: shape });
        }
        let latent = |name: &str| {
            let host = read(&tensors, name)?;
            crate::ops::expect_shape(OP, "slot", host.shape(), shape)?;
            upload(backend, &host)
        };

        let noise = noise.source(shape.elements())?;
        let mut machine = Machine::new(backend, denoiser, upload(backend, &start)?, cfg, noise)?;
        for slot in 1..program.slots() {
            machine.slots.push(latent(&name_of(slot))?);
        }
        machine.make_ready(&program)?;
        machine.error = error.unwrap_or(f64::NAN);
        if inpaints {
            let mask = read(&tensors, "mask")?;
            expect_mask(&mask)?;
            let (mask, kept, noise) = (upload(backend, &mask)?, latent("kept")?, latent("noise")?);
            Blend::<B> { a: &kept, b: &noise, mask: &mask }.check()?;
            let (mixed, prediction) = (backend.latent(shape)?, program.source().model.prediction());
            machine.inpaint = Some(Inpaint { mask, kept, noise, mixed, prediction });
        }
        Ok(Run { machine, program, position, share })
    }
}

/// Refuses a place that is not within the part of the program that is written; its very end is.
fn expect_position(program: &Program, position: Position) -> Result<()> {
    let steps = program.steps();
    let instructions = steps.get(position.step).map_or(0, |step| step.instructions.len());
    if position.step <= steps.len() && position.instruction <= instructions {
        return Ok(());
    }
    refused("position", format!("within {} steps", steps.len()), format!("{position:?}"))
}

fn name_of(slot: usize) -> String {
    format!("slot.{slot}")
}

fn write(tensors: &[(String, Tensor)], settings: String) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let bytes = |tensor: &Tensor| -> Vec<u8> { tensor.data().iter().flat_map(|v| v.to_le_bytes()).collect() };
    let tensors: Vec<_> =
        tensors.iter().map(|(name, tensor)| (name, tensor.shape(), bytes(tensor))).collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, shape.to_vec(), bytes).map(|view| (name.as_str(), view))
    });
    let metadata = HashMap::from([(SETTINGS.to_owned(), settings)]);
    safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, Some(metadata))
}

fn read(tensors: &SafeTensors<'_>, name: &str) -> Result<Tensor> {
    let view = tensors.tensor(name).map_err(|error| unreadable(&format!("{name}: {error}")))?;
    match Shape::try_from_slice(view.shape()) {
        Some(shape) if view.dtype() == Dtype::F32 => {
            let (values, _) = view.data().as_chunks();
            Tensor::new(shape, values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        }
        _ => refused("tensor", "f32, [N, C, H, W]", format!("{name}: {}, {:?}", view.dtype(), view.shape())),
    }
}

fn refused<T>(what: &'static str, expected: impl Display, got: impl Display) -> Result<T> {
    Err(Error::Value { op: OP, what, expected: expected.to_string(), got: got.to_string() })
}

fn unreadable(got: &dyn Display) -> Error {
    Error::Value { op: OP, what: "bytes", expected: "those of a run's snapshot".into(), got: got.to_string() }
}

fn unwritable(got: &dyn Display) -> Error {
    Error::Value {
        op: OP,
        what: "settings",
        expected: "such that can be written down".into(),
        got: got.to_string(),
    }
}
