use noisefork::ops::{Activation, Conv2d, Shift};
use noisefork::reference::Reference;
use noisefork::tensor::{Element, Tensor};
use proptest::prelude::*;

use crate::case::{
    Case, Mapped, Readable, Values, elementwise, extent, few_ulp, largest, mapped, pack, squared, unwritten,
    upload, upload_optional,
};

#[derive(Debug, Clone)]
pub struct Conv2dCase {
    x: [usize; 4],
    outputs: usize,
    kernel: usize,
    stride: usize,
    upsample: Option<[usize; 2]>,
    bias: bool,
    shift: bool,
    residual: bool,
    activation: Activation,
    seed: u64,
}

struct Inputs {
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    shift: Option<Tensor>,
    residual: Option<Tensor>,
}

impl Conv2dCase {
    fn inputs(&self) -> Inputs {
        let mut values = Values(self.seed);
        let [n, h, w, c] = self.x;
        let [height, width] = self.upsample.unwrap_or([h, w]).map(|extent| extent.div_ceil(self.stride));
        Inputs {
            x: values.tensor(self.x, 1.0),
            weight: values.tensor([self.outputs, self.kernel, self.kernel, c], 1.0),
            bias: values.optional(self.bias, [self.outputs]),
            shift: values.optional(self.shift, [n, self.outputs + 5]),
            residual: values.optional(self.residual, [n, height, width, self.outputs]),
        }
    }

    fn compute<S: Element, B: Readable>(
        &self,
        backend: &B,
        inputs: Inputs,
        activation: Activation,
    ) -> Tensor<f64> {
        let x = upload::<S, _>(backend, &inputs.x);
        let weight = pack::<S, _>(backend, &inputs.weight);
        let bias = upload_optional::<S, _>(backend, &inputs.bias);
        let shift = upload_optional::<S, _>(backend, &inputs.shift);
        let residual = upload_optional::<S, _>(backend, &inputs.residual);
        let op = Conv2d {
            x: &x,
            weight: &weight,
            bias: bias.as_ref(),
            shift: shift.as_ref().map(|table| Shift { table, first: 3 }),
            residual: residual.as_ref(),
            activation,
            stride: self.stride,
            upsample: self.upsample,
        };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.conv2d(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }
}

impl Case for Conv2dCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        self.compute::<S, _>(backend, self.inputs(), self.activation)
    }

    /// The largest output, or how large the sums would be if nothing in them cancelled: the same convolution of squares,
    /// and the root.
    fn floor<S: Element>(&self, oracle: &[f64]) -> f64 {
        let inputs = self.inputs();
        let squares = Inputs {
            x: squared(&inputs.x),
            weight: squared(&inputs.weight),
            bias: inputs.bias.as_ref().map(squared),
            shift: inputs.shift.as_ref().map(squared),
            residual: inputs.residual.as_ref().map(squared),
        };
        let sums = self.compute::<f32, _>(&Reference::<f64>::new(), squares, Activation::Identity);
        few_ulp(largest(oracle).max(largest(sums.data()).sqrt()))
    }

    fn large() -> Vec<Self> {
        let case = |x: [usize; 4], kernel, stride, upsample| Conv2dCase {
            x,
            outputs: 33,
            kernel,
            stride,
            upsample,
            bias: true,
            shift: true,
            residual: true,
            activation: Activation::Silu,
            seed: 1,
        };
        vec![
            case([2, 13, 11, 20], 3, 1, None),
            case([2, 7, 11, 20], 3, 1, Some([14, 22])),
            case([2, 7, 11, 20], 3, 1, Some([13, 21])),
            case([2, 31, 29, 20], 3, 2, None),
            // On Hopper, a box that reaches as far as one may, and patches across items.
            case([1, 2, 299, 20], 3, 2, None),
            case([3, 5, 11, 72], 3, 1, Some([10, 22])),
            case([2, 29, 31, 40], 1, 1, None),
            // Winograd's, on edges that cut its patches, upsampled too, and with channels in several parts.
            Conv2dCase { outputs: 64, ..case([2, 7, 9, 64], 3, 1, None) },
            Conv2dCase { outputs: 128, ..case([1, 6, 5, 72], 3, 1, Some([11, 10])) },
            Conv2dCase { outputs: 192, ..case([1, 13, 21, 328], 3, 1, None) },
            // With patches in several blocks.
            Conv2dCase { outputs: 64, ..case([3, 26, 27, 64], 3, 1, None) },
            // So many channels that the taps do not fit a tile together.
            case([1, 9, 9, 250], 3, 1, None),
            // So many that not even one does.
            Conv2dCase { outputs: 3, ..case([1, 9, 9, 1030], 3, 1, None) },
        ]
    }

    fn any() -> BoxedStrategy<Self> {
        let layer = (1..5usize, extent(&[8], 17), extent(&[8], 17), extent(&[16], 20), extent(&[16], 20));
        let layer = (layer, prop::sample::select(vec![1, 3, 5])).boxed();
        // With channels enough for Winograd.
        let channels = || prop::sample::select(vec![64, 72, 80]);
        let wide = ((1..3usize, extent(&[4], 6), extent(&[4], 6), channels(), channels()), Just(3)).boxed();
        (prop_oneof![19 => layer, 1 => wide], 1..3usize, any::<[bool; 6]>(), elementwise(), any::<u64>())
            .prop_map(|(((n, h, w, c, outputs), kernel), stride, flags, activation, seed)| {
                let [upsample, odd_height, odd_width, bias, shift, residual] = flags;
                let upsample =
                    upsample.then(|| [2 * h - usize::from(odd_height), 2 * w - usize::from(odd_width)]);
                let x = [n, h, w, c];
                Conv2dCase { x, outputs, kernel, stride, upsample, bias, shift, residual, activation, seed }
            })
            .boxed()
    }
}

impl Mapped for Conv2dCase {
    fn mapped(self) -> Self {
        let [n, height, width, channels] = self.x;
        let upsample = self.upsample.map(|_| [2 * height, 2 * width]);
        let stride = if upsample.is_some() { 1 } else { self.stride };
        Conv2dCase { x: [n, height, width, mapped(channels)], stride, upsample, ..self }
    }
}
