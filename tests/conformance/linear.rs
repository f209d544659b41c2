use noisefork::ops::{Activation, Linear};
use noisefork::reference::Reference;
use noisefork::tensor::{Element, Tensor};
use proptest::prelude::*;

use crate::case::{
    Case, Mapped, Readable, Values, extent_or_none, few_ulp, largest, mapped, pack, squared, unwritten,
    upload, upload_optional,
};

#[derive(Debug, Clone)]
pub struct LinearCase {
    rows: [usize; 2],
    inputs: usize,
    outputs: usize,
    bias: bool,
    residual: bool,
    activation: Activation,
    scale: f32,
    seed: u64,
}

struct Inputs {
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    residual: Option<Tensor>,
}

impl LinearCase {
    fn inputs(&self) -> Inputs {
        let (mut values, [a, b]) = (Values(self.seed), self.rows);
        Inputs {
            x: values.tensor([a, b, self.inputs], self.scale),
            weight: values.tensor([self.outputs, self.inputs], 1.0),
            bias: values.optional(self.bias, [self.outputs]),
            residual: values.optional(self.residual, [a, b, self.outputs]),
        }
    }

    fn compute<S: Element, B: Readable>(backend: &B, inputs: Inputs, activation: Activation) -> Tensor<f64> {
        let x = upload::<S, _>(backend, &inputs.x);
        let weight = pack::<S, _>(backend, &inputs.weight);
        let bias = upload_optional::<S, _>(backend, &inputs.bias);
        let residual = upload_optional::<S, _>(backend, &inputs.residual);
        let op =
            Linear { x: &x, weight: &weight, bias: bias.as_ref(), residual: residual.as_ref(), activation };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.linear(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }
}

impl Case for LinearCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        LinearCase::compute::<S, _>(backend, self.inputs(), self.activation)
    }

    /// The largest output, or how large the sums would be if nothing in them cancelled: the same layer on squares, and
    /// the root.
    fn floor<S: Element>(&self, oracle: &[f64]) -> f64 {
        let inputs = self.inputs();
        let squares = Inputs {
            x: squared(&inputs.x),
            weight: squared(&inputs.weight),
            bias: inputs.bias.as_ref().map(squared),
            residual: inputs.residual.as_ref().map(squared),
        };
        let sums = LinearCase::compute::<f32, _>(&Reference::<f64>::new(), squares, Activation::Identity);
        let scale = largest(sums.data()).sqrt();
        if self.activation == Activation::Geglu {
            // A value times a gate, either of which may be off.
            return 2.0 * few_ulp(largest(oracle).max(scale * scale));
        }
        few_ulp(largest(oracle).max(scale))
    }

    fn large() -> Vec<Self> {
        let case = |activation, residual| LinearCase {
            rows: [2, 131],
            inputs: 67,
            outputs: 530,
            bias: true,
            residual,
            activation,
            scale: 1.0,
            seed: 1,
        };
        // Few rows, and sums so long that they are worth cutting.
        let deep = |activation, outputs, residual| LinearCase {
            rows: [2, 3],
            inputs: 1030,
            outputs,
            ..case(activation, residual)
        };
        vec![
            case(Activation::Silu, true),
            // Gates that begin within a panel of the weight, and at the start of one.
            LinearCase { outputs: 1038, ..case(Activation::Geglu, false) },
            LinearCase { outputs: 1024, ..case(Activation::Geglu, false) },
            // So many terms that they are summed in parts.
            LinearCase { rows: [1, 17], inputs: 2111, outputs: 70, ..case(Activation::Identity, false) },
            deep(Activation::Relu, 40, true),
            deep(Activation::Geglu, 66, false),
        ]
    }

    fn any() -> BoxedStrategy<Self> {
        let extents = (
            1..3usize,
            extent_or_none(&[64, 128], 140),
            extent_or_none(&[16, 64], 80),
            extent_or_none(&[16, 32], 70),
        );
        let activation = prop::sample::select(vec![
            Activation::Identity,
            Activation::Relu,
            Activation::Silu,
            Activation::Geglu,
        ]);
        (extents, any::<(bool, bool, u64)>(), activation, prop::sample::select(vec![1e-3_f32, 1.0, 100.0]))
            .prop_map(|((items, rows, inputs, outputs), (bias, residual, seed), activation, scale)| {
                let gated = activation == Activation::Geglu;
                LinearCase {
                    rows: [items, rows],
                    inputs,
                    outputs: if gated { 2 * outputs } else { outputs },
                    bias,
                    residual: residual && !gated,
                    activation,
                    // Two such sums multiplied are still within f16.
                    scale: if gated { scale.min(10.0) } else { scale },
                    seed,
                }
            })
            .boxed()
    }
}

impl Mapped for LinearCase {
    fn mapped(self) -> Self {
        let [items, rows] = self.rows.map(|extent| extent.max(1));
        let outputs = if self.activation == Activation::Geglu { 2 } else { 1 };
        LinearCase {
            rows: [items, rows],
            inputs: mapped(self.inputs),
            outputs: self.outputs.max(outputs),
            ..self
        }
    }
}
