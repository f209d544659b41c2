use super::Reference;
use super::real::{Real, activate, dot, load, offset, store};
use crate::ops::Conv2d;
use crate::tensor::{Element, Shape, Shaped};

pub(super) fn conv2d<F: Real, S: Element>(op: &Conv2d<'_, Reference<F, S>>, shape: Shape, y: &mut [S]) {
    let [items, height, width, outputs] = four(shape);
    let [_, _, kernel, inputs] = four(op.weight.shape());
    for n in 0..items {
        for i in 0..height {
            for j in 0..width {
                for o in 0..outputs {
                    let at = offset([items, height, width, outputs], [n, i, j, o]);
                    let mut sum = F::default();
                    for u in 0..kernel {
                        for v in 0..kernel {
                            let weight = offset([outputs, kernel, kernel, inputs], [o, u, v, 0]);
                            if let Some(pixel) = pixel(op, n, i * op.stride + u, j * op.stride + v) {
                                sum = dot(sum, pixel, &op.weight.data()[weight..][..inputs]);
                            }
                        }
                    }
                    sum += op.bias.map_or(F::default(), |bias| load(bias.data()[o]));
                    sum += op.shift.as_ref().map_or(F::default(), |shift| {
                        load(shift.table.data()[n * shift.table.shape().channels() + shift.first + o])
                    });
                    sum += op.residual.map_or(F::default(), |residual| load(residual.data()[at]));
                    y[at] = store(activate(sum, op.activation));
                }
            }
        }
    }
}

/// The channels of `x'[n, i - p, j - p]`; `None` in the padding.
fn pixel<'a, F: Real, S: Element>(
    op: &Conv2d<'a, Reference<F, S>>,
    n: usize,
    i: usize,
    j: usize,
) -> Option<&'a [S]> {
    let [items, height, width, channels] = four(op.x.shape());
    let padding = (op.weight.shape()[1] - 1) / 2;
    let [doubled_height, doubled_width] = op.upsample.unwrap_or([height, width]);
    let shift = usize::from(op.upsample.is_some());
    let i = i.checked_sub(padding).filter(|&i| i < doubled_height)? >> shift;
    let j = j.checked_sub(padding).filter(|&j| j < doubled_width)? >> shift;
    Some(&op.x.data()[offset([items, height, width, channels], [n, i, j, 0])..][..channels])
}

fn four(shape: Shape) -> [usize; 4] {
    [shape[0], shape[1], shape[2], shape[3]]
}
