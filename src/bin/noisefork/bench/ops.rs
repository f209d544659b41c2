use clap::Args;
use noisefork::cpu::Cpu;
use noisefork::error::Result;
use noisefork::ops::{
    Activation, Attention, Backend, Blend, Columns, Combine, Concat, Conv2d, Enter, GroupNorm, LayerNorm,
    Leave, Linear,
};
use noisefork::tensor::{Shape, Shaped, Tensor};
use noisefork::unet::Preset;

use super::case::Case;
use super::preset::{Subject, TOKENS, latent, normal, tensor};
use super::suite::{Common, Dtype, Suite};

/// Channels of a latent.
const LATENT: usize = 4;
const GROUPS: usize = 32;
const EPS: f32 = 1e-5;

/// Measure each operation at the sizes that it has in a UNet; caches can lead past the ceiling that memory sets
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { subject, common } = arguments;
    let side = subject.side()?;
    Suite::run("ops", common, |suite| match common.dtype {
        Dtype::F32 => all(suite, &Cpu::new(), subject, side),
        Dtype::Bf16 => all(suite, &Cpu::bf16(), subject, side),
    })
}

/// A level of a UNet with transformers.
struct Level {
    channels: usize,
    heads: usize,
    side: usize,
}

/// The levels that have transformers, from the finest to the coarsest, and the width of the text.
fn levels(preset: Preset, side: usize) -> (Vec<Level>, usize) {
    // How often the finest of them is halved, the channels, and the width of the text.
    let (first, channels, context): (u32, &[usize], usize) = match preset {
        Preset::Sd21 => (0, &[320, 640, 1280], 1024),
        Preset::Sdxl => (1, &[640, 1280], 2048),
        Preset::SdxlRefiner => (1, &[768, 1536], 1280),
        _ => (0, &[320, 640, 1280], 768),
    };
    let eight_heads = matches!(preset, Preset::Sd15 | Preset::Sd15Inpaint);
    let level = |(halvings, &channels): (u32, &usize)| Level {
        channels,
        heads: if eight_heads { 8 } else { channels / 64 },
        side: (side >> halvings).max(1),
    };
    ((first..).zip(channels).map(level).collect(), context)
}

fn all<B: Backend>(suite: &mut Suite<'_>, backend: &B, subject: &Subject, side: usize) -> Result<()> {
    let n = subject.batch;
    let mut bench = Bench { suite, backend };
    let (levels, context) = levels(subject.preset, side);
    for Level { channels: c, heads, side } in levels {
        let (image, tokens) = ([n, side, side, c], side * side);
        bench.conv2d("conv2d", image, c, 1, false)?;
        bench.conv2d("conv2d, stride 2", image, c, 2, false)?;
        bench.conv2d("conv2d, upsampled", image, c, 1, true)?;
        bench.group_norm(image)?;
        bench.layer_norm([n, tokens, c])?;
        bench.linear("linear, q k v", [n, tokens, c], 3 * c, Activation::Identity, false)?;
        bench.attention("attention, self", [n, tokens, tokens], c, heads)?;
        bench.linear("linear, k v of the text", [n, TOKENS, context], 2 * c, Activation::Identity, false)?;
        bench.attention("attention, cross", [n, tokens, TOKENS], c, heads)?;
        bench.linear("linear, GEGLU", [n, tokens, c], 8 * c, Activation::Geglu, false)?;
        bench.linear("linear, residual", [n, tokens, 4 * c], c, Activation::Identity, true)?;
        bench.concat(image)?;
    }
    let shape = [n, LATENT, side, side];
    bench.enter(shape)?;
    bench.leave([n, side, side, LATENT])?;
    bench.combine(shape)?;
    bench.blend(shape)
}

struct Bench<'s, 'c, B> {
    suite: &'s mut Suite<'c>,
    backend: &'s B,
}

impl<B: Backend> Bench<'_, '_, B> {
    fn conv2d(
        &mut self,
        name: &str,
        x: [usize; 4],
        outputs: usize,
        stride: usize,
        upsampled: bool,
    ) -> Result<()> {
        let backend = self.backend;
        let [_, h, w, inputs] = x;
        let weight = backend.pack(scaled([outputs, 3, 3, inputs], 9 * inputs)?)?;
        let (x, bias) = (tensor(backend, x, 1)?, tensor(backend, [outputs], 2)?);
        let op = Conv2d {
            x: &x,
            weight: &weight,
            bias: Some(&bias),
            shift: None,
            residual: None,
            activation: Activation::Identity,
            stride,
            upsample: upsampled.then_some([2 * h, 2 * w]),
        };
        let mut y = backend.empty(op.check()?)?;
        self.case(name, x.shape(), outputs, op.flops(), op.bytes(&y), || backend.conv2d(&op, &mut y))
    }

    fn linear(
        &mut self,
        name: &str,
        x: [usize; 3],
        outputs: usize,
        activation: Activation,
        residual: bool,
    ) -> Result<()> {
        let backend = self.backend;
        let [n, tokens, inputs] = x;
        let weight = backend.pack(scaled([outputs, inputs], inputs)?)?;
        let (x, bias) = (tensor(backend, x, 1)?, tensor(backend, [outputs], 2)?);
        let residual = residual.then(|| tensor(backend, [n, tokens, outputs], 3)).transpose()?;
        let op =
            Linear { x: &x, weight: &weight, bias: Some(&bias), residual: residual.as_ref(), activation };
        let mut y = backend.empty(op.check()?)?;
        self.case(name, x.shape(), outputs, op.flops(), op.bytes(&y), || backend.linear(&op, &mut y))
    }

    fn attention(
        &mut self,
        name: &str,
        [n, queries, keys]: [usize; 3],
        channels: usize,
        heads: usize,
    ) -> Result<()> {
        let backend = self.backend;
        let (q, kv) =
            (tensor(backend, [n, queries, channels], 1)?, tensor(backend, [n, keys, 2 * channels], 2)?);
        let columns = |tensor, first| Columns { tensor, first };
        let op =
            Attention { q: columns(&q, 0), k: columns(&kv, 0), v: columns(&kv, channels), channels, heads };
        let mut y = backend.empty(op.check()?)?;
        self.case(name, q.shape(), keys, op.flops(), op.bytes(&y), || backend.attention(&op, &mut y))
    }

    fn group_norm(&mut self, x: [usize; 4]) -> Result<()> {
        let backend = self.backend;
        let [x, gamma, beta] = self.normalised(x.into())?;
        let (groups, eps, activation) = (GROUPS, EPS, Activation::Silu);
        let op = GroupNorm { x: &x, gamma: &gamma, beta: &beta, groups, eps, activation };
        let mut y = backend.empty(op.check()?)?;
        let (channels, bytes) = (x.shape().channels(), op.bytes(&y));
        self.case("group_norm, SiLU", x.shape(), channels, op.flops(), bytes, || {
            backend.group_norm(&op, &mut y)
        })
    }

    fn layer_norm(&mut self, x: [usize; 3]) -> Result<()> {
        let backend = self.backend;
        let [x, gamma, beta] = self.normalised(x.into())?;
        let op = LayerNorm { x: &x, gamma: &gamma, beta: &beta, eps: EPS };
        let mut y = backend.empty(op.check()?)?;
        let (channels, bytes) = (x.shape().channels(), op.bytes(&y));
        self.case("layer_norm", x.shape(), channels, op.flops(), bytes, || backend.layer_norm(&op, &mut y))
    }

    fn normalised(&self, x: Shape) -> Result<[B::Tensor; 3]> {
        let channels = [x.channels()];
        Ok([
            tensor(self.backend, x, 1)?,
            tensor(self.backend, channels, 2)?,
            tensor(self.backend, channels, 3)?,
        ])
    }

    fn concat(&mut self, x: [usize; 4]) -> Result<()> {
        let backend = self.backend;
        let (a, b) = (tensor(backend, x, 1)?, tensor(backend, x, 2)?);
        let op = Concat { a: &a, b: &b };
        let mut y = backend.empty(op.check()?)?;
        self.case("concat", a.shape(), 2 * x[3], 0, op.bytes(&y), || backend.concat(&op, &mut y))
    }

    fn enter(&mut self, x: [usize; 4]) -> Result<()> {
        let backend = self.backend;
        let x = latent(backend, x, 1)?;
        let op = Enter { parts: &[(0.5, &x)], copies: 1 };
        let mut y = backend.empty(op.check()?)?;
        self.case("enter", x.shape(), LATENT, 0, op.bytes(&y), || backend.enter(&op, &mut y))
    }

    fn leave(&mut self, x: [usize; 4]) -> Result<()> {
        let backend = self.backend;
        let x = tensor(backend, x, 1)?;
        let op = Leave { x: &x, branch: 0, branches: 1 };
        let mut y = backend.latent(op.check()?)?;
        self.case("leave", x.shape(), LATENT, 0, op.bytes(&y), || backend.leave(&op, &mut y))
    }

    /// As many terms as a step of `dpmpp_2m_sde` has.
    fn combine(&mut self, x: [usize; 4]) -> Result<()> {
        let backend = self.backend;
        let terms = [1, 2, 3, 4].map(|seed| latent(backend, x, seed));
        let [x, denoised, before, noise] = terms;
        let (x, denoised, before, noise) = (x?, denoised?, before?, noise?);
        let op = Combine { terms: &[(0.7, &x), (0.4, &denoised), (-0.1, &before), (0.3, &noise)] };
        let mut y = backend.latent(op.check()?)?;
        self.case("combine", x.shape(), 4, op.flops(), op.bytes(&y), || backend.combine(&op, &mut y))
    }

    fn blend(&mut self, x: [usize; 4]) -> Result<()> {
        let backend = self.backend;
        let [_, _, h, w] = x;
        let (a, b, mask) =
            (latent(backend, x, 1)?, latent(backend, x, 2)?, latent(backend, [1, 1, h, w], 3)?);
        let op = Blend { a: &a, b: &b, mask: &mask };
        let mut y = backend.latent(op.check()?)?;
        self.case("blend", a.shape(), LATENT, op.flops(), op.bytes(&y), || backend.blend(&op, &mut y))
    }

    /// Measures an operation on an `x` of this shape, with so many output channels, keys or terms.
    fn case(
        &mut self,
        name: &str,
        x: Shape,
        to: usize,
        flops: u64,
        bytes: u64,
        work: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let (name, shape) = (name.to_owned(), format!("{x} -> {to}"));
        let case = Case { name, shape, parts: 1, flops: Some(flops), bytes: Some(bytes), model_calls: None };
        self.suite.measure(case, work)
    }
}

/// Weights after which values are as large as before.
fn scaled(shape: impl Into<Shape>, inputs: usize) -> Result<Tensor> {
    let mut weight = normal(shape, 4)?;
    let scale = (inputs as f32).sqrt().recip();
    weight.data_mut().iter_mut().for_each(|weight| *weight *= scale);
    Ok(weight)
}
