//! One value of an operation's answer by the oracle, from those inputs alone that it depends on: the whole would take hours.

use noisefork::cpu::Compute;
use noisefork::ops::Activation;
use noisefork::reference::Reference;
use noisefork::tensor::{Shape, Shaped, Tensor};
use noisefork::trace::{Inputs, Operation, Replay};

/// Value number `at` of what the operation makes of these inputs, once they are rounded to `E`.
pub fn oracle<E: Compute>(operation: &Operation, inputs: &Inputs, at: usize) -> f64 {
    let (part, mut needed, at) = part(operation, inputs, at);
    let round = |tensor: &mut Tensor| *tensor = tensor.cast::<E>().cast();
    needed.tensors.iter_mut().chain(&mut needed.weight).for_each(round);
    let reference = Reference::<f64>::new();
    let mut replay = Replay::new(&reference, part, &needed).expect("part of a whole");
    replay.run().expect("part of a whole");
    replay.tensor().data()[at]
}

/// A smaller operation whose value number `.2` is value number `at` of this one.
fn part(operation: &Operation, Inputs { tensors, weight }: &Inputs, at: usize) -> (Operation, Inputs, usize) {
    let mut operands = tensors.iter();
    let mut next = || operands.next().expect("as many as the operation has");
    match *operation {
        Operation::Linear { x, outputs, bias, residual, activation } => {
            let geglu = activation == Activation::Geglu;
            let width = if geglu { outputs / 2 } else { outputs };
            let (row, output) = (at / width, at % width);
            let both: Vec<usize> = if geglu { vec![output, output + width] } else { vec![output] };
            let weight = rows(weight.as_ref().expect("a weight"), &both);
            let mut needed = vec![rows_as([1, x.channels()], next(), &[row])];
            if bias {
                needed.push(picked([both.len()], next(), &both));
            }
            if residual {
                needed.push(picked([1, 1], next(), &[at]));
            }
            let x = [1, x.channels()].into();
            let part = Operation::Linear { x, outputs: both.len(), bias, residual, activation };
            (part, Inputs { tensors: needed, weight: Some(weight) }, 0)
        }
        Operation::Conv2d { x, kernel, outputs, bias, shift, residual, activation, stride, upsample } => {
            let (image, padding) = (next(), kernel / 2);
            let [height, width] = upsample.unwrap_or([x[1], x[2]]);
            let (pixel, output) = (at / outputs, at % outputs);
            let across = width.div_ceil(stride);
            let (row, column) = (pixel / across, pixel % across);
            let (item, row) = (row / height.div_ceil(stride), row % height.div_ceil(stride));
            // The window that the pixel sees, at the centre of which it is computed again.
            let mut window = Tensor::zeros([1, kernel, kernel, x.channels()]);
            for (tap, seen) in window.data_mut().chunks_mut(x.channels()).enumerate() {
                let (i, j) = (row * stride + tap / kernel, column * stride + tap % kernel);
                if (padding..height + padding).contains(&i) && (padding..width + padding).contains(&j) {
                    let shrink =
                        |at: usize| if upsample.is_some() { (at - padding) / 2 } else { at - padding };
                    let source = (item * x[1] + shrink(i)) * x[2] + shrink(j);
                    seen.copy_from_slice(&image.data()[source * x.channels()..][..x.channels()]);
                }
            }
            let mut needed = vec![window];
            if bias {
                needed.push(picked([1], next(), &[output]));
            }
            if shift {
                needed.push(picked([1, 1], next(), &[item * outputs + output]));
            }
            if residual {
                needed.push(picked([1, kernel, kernel, 1], next(), &vec![at; kernel * kernel]));
            }
            let weight = rows(weight.as_ref().expect("a weight"), &[output]);
            let part = Operation::Conv2d {
                x: needed[0].shape(),
                kernel,
                outputs: 1,
                bias,
                shift,
                residual,
                activation,
                stride: 1,
                upsample: None,
            };
            (part, Inputs { tensors: needed, weight: Some(weight) }, padding * kernel + padding)
        }
        Operation::GroupNorm { x, groups, activation } => {
            let (channels, pixels) = (x.channels(), x.rows() / x[0]);
            let (wide, channel) = (channels / groups, at % channels);
            let (item, pixel, first) =
                (at / channels / pixels, at / channels % pixels, channel / wide * wide);
            let in_group: Vec<usize> = (first..first + wide).collect();
            let values: Vec<usize> = (0..pixels)
                .flat_map(|pixel| (first..first + wide).map(move |c| (item * pixels + pixel) * channels + c))
                .collect();
            let image = picked([1, pixels, wide], next(), &values);
            let needed = vec![image, picked([wide], next(), &in_group), picked([wide], next(), &in_group)];
            let part = Operation::GroupNorm { x: needed[0].shape(), groups: 1, activation };
            (part, Inputs { tensors: needed, weight: None }, pixel * wide + channel - first)
        }
        Operation::LayerNorm { x } => {
            let row = rows_as([1, x.channels()], next(), &[at / x.channels()]);
            let needed = vec![row, next().clone(), next().clone()];
            (
                Operation::LayerNorm { x: needed[0].shape() },
                Inputs { tensors: needed, weight: None },
                at % x.channels(),
            )
        }
        Operation::Attention { columns, channels, heads } => {
            let (depth, channel) = (channels / heads, at % channels);
            let (row, first) = (at / channels, channel / depth * depth);
            let [q, k, _] = columns.map(|(shape, _)| shape);
            let (queries, keys) = (q.rows() / q[0], k.rows() / k[0]);
            let item = row / queries;
            let head = |tensor: &Tensor, column: usize, rows: std::ops::Range<usize>| {
                let width = tensor.shape().channels();
                let values: Vec<usize> = rows
                    .clone()
                    .flat_map(|row| (0..depth).map(move |c| row * width + column + first + c))
                    .collect();
                picked([1, rows.len(), depth], tensor, &values)
            };
            // One tensor may stand for two or all three.
            let (of_q, of_k, of_v) = match tensors.as_slice() {
                [all] => (all, all, all),
                [q, both] => (q, both, both),
                [q, k, v] => (q, k, v),
                _ => panic!("an attention reads one to three tensors"),
            };
            let context = item * keys..(item + 1) * keys;
            let needed = vec![
                head(of_q, columns[0].1, row..row + 1),
                head(of_k, columns[1].1, context.clone()),
                head(of_v, columns[2].1, context),
            ];
            let columns = [0, 1, 2].map(|at: usize| (needed[at].shape(), 0));
            let part = Operation::Attention { columns, channels: depth, heads: 1 };
            (part, Inputs { tensors: needed, weight: None }, channel - first)
        }
        Operation::Concat { a, b } => {
            let (row, channel) = (at / (a.channels() + b), at % (a.channels() + b));
            let needed = vec![rows_as([1, a.channels()], next(), &[row]), rows_as([1, b], next(), &[row])];
            (Operation::Concat { a: needed[0].shape(), b }, Inputs { tensors: needed, weight: None }, channel)
        }
        Operation::Rows { table, rows, items } => {
            let (item, column) = (at / table.channels(), at % table.channels());
            let needed = vec![rows_as([1, table.channels()], next(), &[item * rows / items])];
            let part = Operation::Rows { table: needed[0].shape(), rows: 1, items: 1 };
            (part, Inputs { tensors: needed, weight: None }, column)
        }
        _ => panic!("no operation of a UNet's answer: {operation}"),
    }
}

/// Some values, by their numbers.
fn picked(shape: impl Into<Shape>, tensor: &Tensor, numbers: &[usize]) -> Tensor {
    Tensor::new(shape, numbers.iter().map(|&at| tensor.data()[at]).collect()).expect("as many values")
}

/// Some of the rows of channels.
fn rows_as(shape: impl Into<Shape>, tensor: &Tensor, numbers: &[usize]) -> Tensor {
    let width = tensor.shape().channels();
    let values = numbers.iter().flat_map(|row| tensor.data()[row * width..][..width].to_vec());
    Tensor::new(shape, values.collect()).expect("as many values")
}

/// Some outputs of a weight.
fn rows(weight: &Tensor, outputs: &[usize]) -> Tensor {
    let terms = weight.data().len() / weight.shape()[0];
    let values = outputs.iter().flat_map(|output| weight.data()[output * terms..][..terms].to_vec());
    Tensor::new(weight.shape().with_batch(outputs.len()), values.collect()).expect("as many values")
}
