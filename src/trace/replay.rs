use crate::error::{Error, Result};
use crate::ops::{
    Attention, Backend, Blend, Columns, Combine, Concat, Conv2d, Enter, GroupNorm, Inject, LayerNorm, Leave,
    Linear, Rows, Shift,
};
use crate::rng::{CounterStream, Draw, NormalDraw};
use crate::tensor::{Shape, Shaped, Tensor};

use super::Operation;

/// That of diffusers.
const EPS: f32 = 1e-5;

/// Values for an operation's operands, on the host.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// What it reads besides the weight, in the order of its fields, absent ones left out. A shift stands after the bias, as
    /// `[items, outputs]`. Operands of an attention that are columns of one tensor stand there once.
    pub tensors: Vec<Tensor>,
    /// The weight of a linear layer or a convolution.
    pub weight: Option<Tensor>,
}

impl Inputs {
    /// Standard normal values, others for each seed, and a weight after which they are of order 1.
    ///
    /// # Errors
    /// [`Error::Value`] and [`Error::Shape`] for an operation that has no output, such as a convolution of stride 0;
    /// [`Error::Value`] where there is too little memory.
    pub fn normal(operation: &Operation, seed: u64) -> Result<Self> {
        operation.check()?;
        let stream = CounterStream::new(seed);
        let values = |(number, shape): (usize, Shape)| {
            let mut tensor = Tensor::try_zeros(shape)?;
            stream.randn(number as u32, 0, 0, tensor.data_mut());
            Ok(tensor)
        };
        let tensors = shapes(operation).into_iter().enumerate().map(values).collect::<Result<_>>()?;
        let weight = weight(operation).map(|shape| {
            let mut weight = values((u32::MAX as usize, shape))?;
            let scale = ((shape.elements() / shape[0].max(1)) as f32).sqrt().recip();
            weight.data_mut().iter_mut().for_each(|weight| *weight *= scale);
            Ok(weight)
        });
        Ok(Inputs { tensors, weight: weight.transpose()? })
    }
}

/// The shape of the weight, if there is one.
fn weight(operation: &Operation) -> Option<Shape> {
    match *operation {
        Operation::Linear { x, outputs, .. } => Some([outputs, x.channels()].into()),
        Operation::Conv2d { x, kernel, outputs, .. } => Some([outputs, kernel, kernel, x.channels()].into()),
        _ => None,
    }
}

/// The shapes of [`Inputs::tensors`].
fn shapes(operation: &Operation) -> Vec<Shape> {
    match operation {
        Operation::Linear { x, outputs, bias, residual, .. } => {
            let optional = [bias.then_some([*outputs].into()), residual.then_some(x.with_channels(*outputs))];
            [*x].into_iter().chain(optional.into_iter().flatten()).collect()
        }
        Operation::Conv2d { x, outputs, bias, shift, residual, .. } => {
            let optional = [
                bias.then_some([*outputs].into()),
                shift.then_some([x[0], *outputs].into()),
                residual.then(|| operation.output()),
            ];
            [*x].into_iter().chain(optional.into_iter().flatten()).collect()
        }
        Operation::GroupNorm { x, .. } | Operation::LayerNorm { x } => {
            vec![*x, [x.channels()].into(), [x.channels()].into()]
        }
        Operation::Attention { columns, .. } => {
            let places = places(columns);
            let first = |at: &usize| places.iter().position(|place| place == at);
            (0..3).filter_map(|place| Some(columns[first(&place)?].0)).collect()
        }
        Operation::Concat { a, b } => vec![*a, a.with_channels(*b)],
        Operation::Enter { parts, .. } => parts.clone(),
        Operation::Rows { table: x, .. } | Operation::Leave { x, .. } => vec![*x],
        Operation::Combine { y, terms } | Operation::Inject { y, terms, .. } => vec![*y; *terms],
        Operation::Blend { y, mask } => vec![*y, *y, *mask],
    }
}

/// Which tensors queries, keys and values are columns of: of one if they have a shape in common and no column.
fn places(columns: &[(Shape, usize); 3]) -> [usize; 3] {
    let [q, k, v] = columns;
    let one = |a: &(Shape, usize), b: &(Shape, usize)| a.0 == b.0 && a.1 != b.1;
    let of_k = if one(q, k) { 0 } else { 1 };
    [0, of_k, if one(k, v) { of_k } else { of_k + 1 }]
}

/// An operation with operands of its own, to be run by itself on a backend.
pub struct Replay<'b, B: Backend> {
    backend: &'b B,
    operation: Operation,
    tensors: Vec<B::Tensor>,
    latents: Vec<B::Latent>,
    weights: Vec<B::Weight>,
    /// What is written, or nothing if that is `latent`.
    tensor: B::Tensor,
    /// What is written, or nothing if that is `tensor`.
    latent: B::Latent,
}

impl<'b, B: Backend> Replay<'b, B> {
    /// The operation on these inputs.
    ///
    /// # Errors
    /// Those of [`Inputs::normal`]; [`Error::Value`] for inputs that are not such as it makes for the operation; whatever
    /// the backend reports.
    pub fn new(backend: &'b B, operation: Operation, inputs: &Inputs) -> Result<Self> {
        operation.check()?;
        expect_shapes("tensors", &inputs.tensors, &shapes(&operation))?;
        expect_shapes("weight", inputs.weight.as_slice(), weight(&operation).as_slice())?;
        let (reads_latents, writes_latent) = match operation {
            Operation::Enter { .. } => (true, false),
            Operation::Leave { .. } => (false, true),
            Operation::Combine { .. } | Operation::Inject { .. } | Operation::Blend { .. } => (true, true),
            _ => (false, false),
        };
        let latent = |host: &Tensor| {
            let mut latent = backend.latent(host.shape())?;
            backend.write_latent(host, &mut latent).map(|()| latent)
        };
        let (latents, tensors) =
            inputs.tensors.split_at(if reads_latents { inputs.tensors.len() } else { 0 });
        let (nothing, y) = (Shape::from([0]), operation.output());
        Ok(Replay {
            backend,
            tensors: tensors.iter().map(|host| backend.upload(host)).collect::<Result<_>>()?,
            latents: latents.iter().map(latent).collect::<Result<_>>()?,
            weights: inputs.weight.iter().map(|host| backend.pack(host.clone())).collect::<Result<_>>()?,
            tensor: backend.empty(if writes_latent { nothing } else { y })?,
            latent: backend.latent(if writes_latent { y } else { nothing })?,
            operation,
        })
    }

    /// What the last run wrote, unless it was a latent.
    pub fn tensor(&self) -> &B::Tensor {
        &self.tensor
    }

    /// What the last run wrote, if it was a latent.
    pub fn latent(&self) -> &B::Latent {
        &self.latent
    }

    /// Runs it.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn run(&mut self) -> Result<()> {
        let Replay { backend, tensors, latents, weights, tensor: y, latent: y_latent, .. } = self;
        match self.operation {
            Operation::Linear { bias, residual, activation, .. } => {
                let (bias, residual) = (bias.then(|| &tensors[1]), tensors.last().filter(|_| residual));
                let op = Linear { x: &tensors[0], weight: &weights[0], bias, residual, activation };
                backend.linear(&op, y)
            }
            Operation::Conv2d { bias, shift, residual, activation, stride, upsample, .. } => {
                let table = shift.then(|| &tensors[1 + usize::from(bias)]);
                let op = Conv2d {
                    x: &tensors[0],
                    weight: &weights[0],
                    bias: bias.then(|| &tensors[1]),
                    shift: table.map(|table| Shift { table, first: 0 }),
                    residual: tensors.last().filter(|_| residual),
                    activation,
                    stride,
                    upsample,
                };
                backend.conv2d(&op, y)
            }
            Operation::GroupNorm { groups, activation, .. } => {
                let [x, gamma, beta] = [0, 1, 2].map(|at| &tensors[at]);
                backend.group_norm(&GroupNorm { x, gamma, beta, groups, eps: EPS, activation }, y)
            }
            Operation::LayerNorm { .. } => {
                let [x, gamma, beta] = [0, 1, 2].map(|at| &tensors[at]);
                backend.layer_norm(&LayerNorm { x, gamma, beta, eps: EPS }, y)
            }
            Operation::Attention { columns, channels, heads } => {
                let places = places(&columns);
                let [q, k, v] =
                    [0, 1, 2].map(|at| Columns { tensor: &tensors[places[at]], first: columns[at].1 });
                backend.attention(&Attention { q, k, v, channels, heads }, y)
            }
            Operation::Concat { .. } => backend.concat(&Concat { a: &tensors[0], b: &tensors[1] }, y),
            Operation::Rows { rows, items, .. } => {
                backend.rows(&Rows { table: &tensors[0], rows: 0..rows, items }, y)
            }
            Operation::Enter { copies, .. } => backend.enter(&Enter { parts: &terms(latents), copies }, y),
            Operation::Leave { branches, .. } => {
                backend.leave(&Leave { x: &tensors[0], branch: 0, branches }, y_latent)
            }
            Operation::Combine { .. } => backend.combine(&Combine { terms: &terms(latents) }, y_latent),
            Operation::Inject { draws, .. } => {
                let draw = |key| Draw::Normal(NormalDraw { key: [key, 0], counter: [0, 0], threads: 0 });
                let draws: Vec<Draw> = (0..draws as u32).map(draw).collect();
                backend.inject(&Inject { terms: &terms(latents), noise: (0.5, &draws) }, y_latent)
            }
            Operation::Blend { .. } => {
                backend.blend(&Blend { a: &latents[0], b: &latents[1], mask: &latents[2] }, y_latent)
            }
        }
    }
}

/// Latents with the coefficients 0.5, 0.25 and so on.
fn terms<L>(latents: &[L]) -> Vec<(f32, &L)> {
    latents.iter().zip(1..).map(|(latent, power)| (0.5f32.powi(power), latent)).collect()
}

fn expect_shapes(what: &'static str, got: &[Tensor], expected: &[Shape]) -> Result<()> {
    let got: Vec<Shape> = got.iter().map(Shaped::shape).collect();
    if got == expected {
        return Ok(());
    }
    let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
    Err(Error::Value { op: "replay", what, expected, got })
}
