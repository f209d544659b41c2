//! Handwritten kernels, seed-exact noise, samplers and the denoising networks of the Stable Diffusion family: on CPUs in
//! Rust, on NVIDIA GPUs in CUDA.
//!
//! # Sampling a model of your own
//!
//! A sampler needs to know nothing of a model but its noise levels and how to ask it for the clean latent behind a noisy
//! one. A closure will do:
//!
//! ```
//! use noisefork::cpu::Cpu;
//! use noisefork::sampling::{Betas, Branch, KSampler, Model, ModelSampling};
//! use noisefork::tensor::Tensor;
//! use std::ops::ControlFlow;
//!
//! # fn main() -> noisefork::error::Result<()> {
//! // The exact denoiser of latents that are all 0.5.
//! let denoiser = |_: &Tensor, _sigma: f64, _: Branch, denoised: &mut Tensor| {
//!     denoised.data_mut().fill(0.5);
//!     Ok(())
//! };
//! let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION)?;
//! let mut model = Model { backend: &Cpu::new(), denoiser, sampling, latent_scale: 1.0 };
//!
//! let run = KSampler::new(42, 20, 1.0, "dpmpp_2m_sde".parse()?, "karras".parse()?);
//! let empty = Tensor::zeros([1, 4, 8, 8]);
//! let samples = run.sample(&mut model, &empty, &mut |_| ControlFlow::Continue(()))?;
//! assert!(samples.data().iter().all(|value| (value - 0.5).abs() < 1e-5));
//! # Ok(())
//! # }
//! ```
//!
//! # A sampler is a program
//!
//! What a run will do is known before it starts, and can be read:
//!
//! ```
//! use noisefork::sampling::{Betas, ModelSampling, Sampler, Scheduler};
//!
//! # fn main() -> noisefork::error::Result<()> {
//! let sampling = ModelSampling::eps(Betas::STABLE_DIFFUSION)?;
//! let sigmas = "karras".parse::<Scheduler>()?.sigmas(&sampling, 10)?;
//! let program = "heun".parse::<Sampler>()?.program(&sampling, &sigmas)?;
//! assert_eq!((program.steps().len(), program.model_calls()), (10, 19));
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//!
//! A module uses only those above it; `tests/layering.rs` holds them to it.
//!
//! | module | what it is |
//! |---|---|
//! | [`error`] | what can go wrong, as data |
//! | [`tensor`] | shapes, element types, host tensors; no arithmetic |
//! | [`pool`] | memory that is used again; rehearsals that tell how much |
//! | [`rng`] | streams that match torch, numpy and torchsde |
//! | [`ops`] | the contract: each operation's arguments, checks and cost; [`ops::Backend`] |
//! | [`trace`] | a backend that writes down what another spends its time on |
//! | [`reference`](mod@reference) | the contract in plain loops: the oracle |
//! | [`cpu`] | the contract, fast |
//! | [`cuda`] | the contract on NVIDIA GPUs: plans, and launches of the kernels |
//! | [`nn`] | weights and blocks over any backend |
//! | [`sampling`] | levels, samplers, guidance, the k-sampler, variations; knows no model |
//! | [`unet`] | UNets of SD 1.x, 2.x, SDXL, and as samplers see them |
//! | [`autoencoder`] | the tiny autoencoder: latents to pictures and back |
//! | [`words`] | prompts by a table of words |
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `cli` (default) | the `noisefork` command and what only it needs; libraries use `default-features = false` |
//! | `cuda` | launches through NVIDIA's driver, which is opened at run time. Building wants nvcc, 12.8 or newer (`ci/nvcc.sh` gets one), or `NOISEFORK_KERNELS=skip`; `NOISEFORK_CUDA_ARCH=sm_90a,compute_80` chooses what code is made for |

pub mod autoencoder;
pub mod cpu;
pub mod cuda;
pub mod error;
pub mod nn;
pub mod ops;
pub mod pool;
pub mod reference;
pub mod rng;
pub mod sampling;
mod simd;
pub mod tensor;
pub mod trace;
pub mod unet;
pub mod words;
