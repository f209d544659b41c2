//! Single operations in f32 by candle, as candle-transformers' UNet has them: `candle_ops BATCH PASSES CASE ...`
//!
//! Channels come first, as everywhere in candle. Cases that it has no counterpart of are left out.

use candle_core::{D, Device, Module, Result, Shape, Tensor};
use candle_nn::ops::{silu, softmax_last_dim};
use candle_nn::{Conv2d, Conv2dConfig, GroupNorm, LayerNorm, Linear};
use rivals::{Arguments, Case, measure, values};

const GROUPS: usize = 32;
const EPS: f64 = 1e-5;

fn main() -> Result<()> {
    let arguments = Arguments::read().expect("candle_ops BATCH PASSES CASE ...");
    arguments.cases.iter().try_for_each(|case| operation(&arguments, case))
}

fn operation(&Arguments { batch: n, passes, .. }: &Arguments, case: &Case) -> Result<()> {
    let measure = |work: &dyn Fn() -> Result<Tensor>| measure(&case.what, n, passes, work);
    match (case.name.as_str(), &case.sizes[..]) {
        ("conv2d", &[h, w, inputs, kernel, _, outputs]) => {
            let config = Conv2dConfig {
                padding: kernel / 2,
                stride: if case.has("halved") { 2 } else { 1 },
                ..Default::default()
            };
            let weight = weight((outputs, inputs, kernel, kernel), kernel * kernel * inputs)?;
            let conv = Conv2d::new(weight, Some(random(outputs)?), config);
            let x = random((n, inputs, h, w))?;
            let shift = case.has("shift").then(|| random((n, outputs, 1, 1))).transpose()?;
            let residual = case.has("residual").then(|| random((n, outputs, h, w))).transpose()?;
            measure(&|| {
                let x = if case.has("doubled") { &x.upsample_nearest2d(2 * h, 2 * w)? } else { &x };
                let mut y = conv.forward(x)?;
                if let Some(shift) = &shift {
                    y = y.broadcast_add(shift)?;
                }
                if let Some(residual) = &residual {
                    y = (y + residual)?;
                }
                if case.has("SiLU") { silu(&y) } else { Ok(y) }
            })
        }
        ("group_norm", &[h, w, c]) => {
            let norm = GroupNorm::new(random(c)?, random(c)?, c, GROUPS, EPS)?;
            let x = random((n, c, h, w))?;
            measure(&|| {
                let y = norm.forward(&x)?;
                if case.has("SiLU") { silu(&y) } else { Ok(y) }
            })
        }
        ("concat", &[h, w, a, b]) => {
            let (a, b) = (random((n, a, h, w))?, random((n, b, h, w))?);
            measure(&|| Tensor::cat(&[&a, &b], 1))
        }
        ("layer_norm", &[ref tokens @ .., c]) => {
            let norm = LayerNorm::new(random(c)?, random(c)?, EPS);
            let x = random((n, tokens.iter().product(), c))?;
            measure(&|| norm.forward(&x))
        }
        ("linear", &[ref tokens @ .., inputs, outputs]) => {
            let tokens: usize = tokens.iter().product();
            let linear = Linear::new(weight((outputs, inputs), inputs)?, Some(random(outputs)?));
            let x = random((n, tokens, inputs))?;
            let residual = case.has("residual").then(|| random((n, tokens, outputs))).transpose()?;
            measure(&|| {
                let mut y = linear.forward(&x)?;
                if let Some(residual) = &residual {
                    y = (y + residual)?;
                }
                match () {
                    () if case.has("SiLU") => silu(&y),
                    () if case.has("GEGLU") => {
                        let halves = y.chunk(2, D::Minus1)?;
                        &halves[0] * halves[1].gelu()?
                    }
                    () => Ok(y),
                }
            })
        }
        ("attention", &[queries, keys, heads, width]) => {
            let [q, k, v] = [queries, keys, keys].map(|tokens| random((n, tokens, heads * width)));
            let (q, k, v) = (q?, k?, v?);
            measure(&|| attention(&q, &k, &v, heads))
        }
        _ => Ok(()),
    }
}

/// As the UNet of candle-transformers computes it: heads to the front, two products and a softmax.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let (n, queries, channels) = q.dims3()?;
    let width = channels / heads;
    let split = |x: &Tensor| {
        let tokens = x.dim(1)?;
        x.reshape((n, tokens, heads, width))?.transpose(1, 2)?.reshape((n * heads, tokens, width))
    };
    let scale = (width as f64).sqrt().recip();
    let scores = split(q)?.matmul(&(split(k)?.t()? * scale)?)?;
    let y = softmax_last_dim(&scores)?.matmul(&split(v)?)?;
    y.reshape((n, heads, queries, width))?.transpose(1, 2)?.reshape((n, queries, channels))
}

fn weight(shape: impl Into<Shape>, inputs: usize) -> Result<Tensor> {
    tensor(shape, (inputs as f32).sqrt().recip())
}

fn random(shape: impl Into<Shape>) -> Result<Tensor> {
    tensor(shape, 1.0)
}

fn tensor(shape: impl Into<Shape>, scale: f32) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(values(shape.elem_count(), scale), shape, &Device::Cpu)
}
