//! Every operation refuses what it cannot compute: with the exact error, and without touching its output.

use std::path::Path;
use std::sync::Arc;

use noisefork::cpu::{Compute, Cpu};
use noisefork::error::{Error, Result};
use noisefork::ops::*;
use noisefork::pool::{Pool, PooledTensor};
use noisefork::reference::Reference;
use noisefork::rng::{Draw, NormalDraw};
use noisefork::tensor::{DType, Element, Shape, Shaped, Tensor};
use noisefork::trace::Sketch;
use noisefork::unet::UNet;

/// What stands in an output before an operation that must not write to it.
const UNTOUCHED: f64 = 7.5;

/// A tensor that can be made and looked at here.
trait OnHost: Shaped {
    fn filled(shape: Shape, value: f64) -> Self;
    fn values(&self) -> Vec<f64>;
}

impl<E: Element> OnHost for Tensor<E> {
    fn filled(shape: Shape, value: f64) -> Self {
        Tensor::new(shape, vec![E::from_f64(value); shape.elements()]).unwrap()
    }
    fn values(&self) -> Vec<f64> {
        self.cast().into_data()
    }
}

impl<E: Element> OnHost for PooledTensor<E> {
    fn filled(shape: Shape, value: f64) -> Self {
        let mut tensor = PooledTensor::new(&Pool::default(), shape).unwrap();
        tensor.data_mut().fill(E::from_f64(value));
        tensor
    }
    fn values(&self) -> Vec<f64> {
        self.cast().into_data()
    }
}

fn ones<T: OnHost>(shape: impl Into<Shape>) -> T {
    T::filled(shape.into(), 1.0)
}

fn shape_error(op: &'static str, tensor: &'static str, expected: &str, got: impl Into<Shape>) -> Error {
    Error::Shape { op, tensor, expected: expected.into(), got: got.into() }
}

fn value_error(op: &'static str, what: &'static str, expected: &str, got: &str) -> Error {
    Error::Value { op, what, expected: expected.into(), got: got.into() }
}

/// Runs an operation on an output of shape `y`, expects `error` of it, and nothing written.
fn refused<T: OnHost>(y: impl Into<Shape>, error: Error, run: impl FnOnce(&mut T) -> Result<()>) {
    let mut output = T::filled(y.into(), UNTOUCHED);
    assert_eq!(run(&mut output), Err(error));
    assert!(output.values().iter().all(|&value| value == UNTOUCHED), "written to");
}

/// A backend on the host.
trait Host: Backend<Tensor: OnHost, Latent: OnHost> {}
impl<B: Backend<Tensor: OnHost, Latent: OnHost>> Host for B {}

fn pack<B: Host>(b: &B, shape: impl Into<Shape>) -> B::Weight {
    b.pack(ones(shape)).unwrap()
}

fn linear<B: Host>(b: &B) {
    let (x, weight, bias, residual) = (ones([2, 3]), pack(b, [4, 3]), ones([4]), ones([2, 4]));
    let good = || Linear {
        x: &x,
        weight: &weight,
        bias: Some(&bias),
        residual: Some(&residual),
        activation: Activation::Silu,
    };
    b.linear(&good(), &mut ones([2, 4])).unwrap();

    let refuse = |op: Linear<'_, B>, y: Shape, error| refused(y, error, |y| b.linear(&op, y));
    let y: Shape = [2, 4].into();
    let shape = |tensor, expected: &str, got: Shape| shape_error("linear", tensor, expected, got);

    let kernel = pack(b, [4, 1, 1, 3]);
    refuse(Linear { weight: &kernel, ..good() }, y, shape("weight", "[M, K]", [4, 1, 1, 3].into()));
    let narrow = ones([2, 2]);
    refuse(Linear { x: &narrow, ..good() }, y, shape("x", "[.., 3]", [2, 2].into()));
    let scalar = ones([]);
    let one = pack(b, [1, 1]);
    refuse(Linear { x: &scalar, weight: &one, ..good() }, y, shape("x", "[.., 1]", [].into()));
    let short = ones([3]);
    refuse(Linear { bias: Some(&short), ..good() }, y, shape("bias", "[4]", [3].into()));
    let other = ones([1, 4]);
    refuse(Linear { residual: Some(&other), ..good() }, y, shape("residual", "[2, 4]", [1, 4].into()));
    refuse(good(), [2, 3].into(), shape("y", "[2, 4]", [2, 3].into()));
    refuse(good(), [8].into(), shape("y", "[2, 4]", [8].into()));

    let gated = || Linear { residual: None, activation: Activation::Geglu, ..good() };
    b.linear(&gated(), &mut ones([2, 2])).unwrap();
    let (odd, odd_bias) = (pack(b, [3, 3]), ones([3]));
    let expected = "[M, K] with M even for GEGLU";
    refuse(
        Linear { weight: &odd, bias: Some(&odd_bias), ..gated() },
        y,
        shape("weight", expected, [3, 3].into()),
    );
    let error = value_error("linear", "residual", "absent with GEGLU", "a residual");
    refuse(Linear { residual: Some(&residual), ..gated() }, [2, 2].into(), error);
    refuse(gated(), y, shape("y", "[2, 2]", y));
}

fn conv2d<B: Host>(b: &B) {
    let (x, weight) = (ones([2, 5, 4, 3]), pack(b, [6, 3, 3, 3]));
    let (bias, table, residual) = (ones([6]), ones([2, 8]), ones([2, 3, 2, 6]));
    let shift = |table, first| Some(Shift { table, first });
    let good = || Conv2d {
        x: &x,
        weight: &weight,
        bias: Some(&bias),
        shift: shift(&table, 2),
        residual: Some(&residual),
        activation: Activation::Silu,
        stride: 2,
        upsample: None,
    };
    let y: Shape = [2, 3, 2, 6].into();
    b.conv2d(&good(), &mut ones(y)).unwrap();

    let refuse = |op: Conv2d<'_, B>, y: Shape, error| refused(y, error, |y| b.conv2d(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("conv2d", tensor, expected, got);

    let flat = ones([2, 5, 3]);
    refuse(Conv2d { x: &flat, ..good() }, y, shape("x", "[N, H, W, C], none of them 0", [2, 5, 3].into()));
    let nothing = ones([2, 0, 4, 3]);
    refuse(
        Conv2d { x: &nothing, ..good() },
        y,
        shape("x", "[N, H, W, C], none of them 0", [2, 0, 4, 3].into()),
    );
    let matrix = pack(b, [6, 3]);
    let expected = "[O, kernel, kernel, C], none of them 0";
    refuse(Conv2d { weight: &matrix, ..good() }, y, shape("weight", expected, [6, 3].into()));
    let deep = pack(b, [6, 3, 3, 4]);
    let expected = "[O, kernel, kernel, 3] with kernel odd";
    refuse(Conv2d { weight: &deep, ..good() }, y, shape("weight", expected, [6, 3, 3, 4].into()));
    for stride in [0, 3] {
        let error = value_error("conv2d", "stride", "1 or 2", &stride.to_string());
        refuse(Conv2d { stride, ..good() }, y, error);
    }
    let error = value_error("conv2d", "activation", "elementwise", "GEGLU");
    refuse(Conv2d { activation: Activation::Geglu, ..good() }, y, error);
    let short = ones([5]);
    refuse(Conv2d { bias: Some(&short), ..good() }, y, shape("bias", "[6]", [5].into()));
    let narrow = "[2, at least 9]";
    refuse(Conv2d { shift: shift(&table, 3), ..good() }, y, shape("shift", narrow, [2, 8].into()));
    let longer = ones([3, 8]);
    refuse(
        Conv2d { shift: shift(&longer, 2), ..good() },
        y,
        shape("shift", "[2, at least 8]", [3, 8].into()),
    );
    refuse(
        Conv2d { residual: Some(&x), ..good() },
        y,
        shape("residual", "[2, 3, 2, 6]", [2, 5, 4, 3].into()),
    );
    refuse(good(), [2, 2, 3, 6].into(), shape("y", "[2, 3, 2, 6]", [2, 2, 3, 6].into()));
    let upsampled = |size| Conv2d { upsample: Some(size), stride: 1, residual: None, ..good() };
    refuse(upsampled([10, 8]), y, shape("y", "[2, 10, 8, 6]", y));
    refuse(upsampled([9, 7]), y, shape("y", "[2, 9, 7, 6]", y));
    for [h, w] in [[8, 8], [11, 8], [10, 6], [10, 9], [0, 8], [usize::MAX, 8]] {
        let error = value_error("conv2d", "upsample", "twice 5 by 4, or one less", &format!("{h} by {w}"));
        refuse(upsampled([h, w]), y, error);
    }
}

fn group_norm<B: Host>(b: &B) {
    let (x, gamma): (B::Tensor, B::Tensor) = (ones([2, 3, 3, 6]), ones([6]));
    let activation = Activation::Silu;
    let good = || GroupNorm { x: &x, gamma: &gamma, beta: &gamma, groups: 3, eps: 1e-5, activation };
    let y = x.shape();
    b.group_norm(&good(), &mut ones(y)).unwrap();

    let refuse = |op: GroupNorm<'_, B>, y: Shape, error| refused(y, error, |y| b.group_norm(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("group_norm", tensor, expected, got);

    refuse(GroupNorm { x: &gamma, ..good() }, y, shape("x", "[N, .., C], none of them 0", [6].into()));
    let nothing = ones([2, 0, 3, 6]);
    refuse(
        GroupNorm { x: &nothing, ..good() },
        y,
        shape("x", "[N, .., C], none of them 0", [2, 0, 3, 6].into()),
    );
    let short = ones([5]);
    refuse(GroupNorm { gamma: &short, ..good() }, y, shape("gamma", "[6]", [5].into()));
    refuse(GroupNorm { beta: &short, ..good() }, y, shape("beta", "[6]", [5].into()));
    for groups in [0, 4] {
        let error = value_error("group_norm", "groups", "a divisor of 6 channels", &groups.to_string());
        refuse(GroupNorm { groups, ..good() }, y, error);
    }
    for (eps, text) in BAD_EPS {
        refuse(GroupNorm { eps, ..good() }, y, value_error("group_norm", "eps", "positive and finite", text));
    }
    let error = value_error("group_norm", "activation", "elementwise", "GEGLU");
    refuse(GroupNorm { activation: Activation::Geglu, ..good() }, y, error);
    refuse(good(), [2, 9, 6].into(), shape("y", "[2, 3, 3, 6]", [2, 9, 6].into()));
}

const BAD_EPS: [(f32, &str); 4] = [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")];

fn layer_norm<B: Host>(b: &B) {
    let (x, gamma): (B::Tensor, B::Tensor) = (ones([2, 6]), ones([6]));
    let good = || LayerNorm { x: &x, gamma: &gamma, beta: &gamma, eps: 1e-5 };
    let y = x.shape();
    b.layer_norm(&good(), &mut ones(y)).unwrap();

    let refuse = |op: LayerNorm<'_, B>, y: Shape, error| refused(y, error, |y| b.layer_norm(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("layer_norm", tensor, expected, got);

    let (scalar, nothing, short) = (ones([]), ones([0, 6]), ones([5]));
    refuse(LayerNorm { x: &scalar, ..good() }, y, shape("x", "[.., C], none of them 0", [].into()));
    refuse(LayerNorm { x: &nothing, ..good() }, y, shape("x", "[.., C], none of them 0", [0, 6].into()));
    refuse(LayerNorm { gamma: &short, ..good() }, y, shape("gamma", "[6]", [5].into()));
    refuse(LayerNorm { beta: &short, ..good() }, y, shape("beta", "[6]", [5].into()));
    for (eps, text) in BAD_EPS {
        refuse(LayerNorm { eps, ..good() }, y, value_error("layer_norm", "eps", "positive and finite", text));
    }
    refuse(good(), [2, 5].into(), shape("y", "[2, 6]", [2, 5].into()));
}

fn columns<B: Host>(tensor: &B::Tensor, first: usize) -> Columns<'_, B> {
    Columns { tensor, first }
}

fn attention<B: Host>(b: &B) {
    let q: B::Tensor = ones([2, 3, 6]);
    let (k, v) = (ones([2, 5, 12]), ones([2, 5, 7]));
    let (channels, heads) = (6, 2);
    let good = || Attention { q: columns(&q, 0), k: columns(&k, 4), v: columns(&v, 1), channels, heads };
    let y = q.shape();
    b.attention(&good(), &mut ones(y)).unwrap();

    let refuse = |op: Attention<'_, B>, y: Shape, error| refused(y, error, |y| b.attention(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("attention", tensor, expected, got);

    let (flat, no_keys, one_item, thin) = (ones([6]), ones([2, 0, 6]), ones([1, 5, 6]), ones([2, 5, 4]));
    let expected = "[N, .., at least 6], none of them 0";
    refuse(Attention { q: columns(&flat, 0), ..good() }, y, shape("q", expected, [6].into()));
    let expected = "[2, .., at least 6], none of them 0";
    for k in [&flat, &no_keys, &one_item, &thin] {
        refuse(Attention { k: columns(k, 0), ..good() }, y, shape("k", expected, k.shape()));
    }
    let expected = "[2, 5, at least 7], none of them 0";
    refuse(Attention { v: columns(&q, 1), ..good() }, y, shape("v", expected, q.shape()));
    for first in [2, usize::MAX] {
        let expected = format!("[2, 5, at least {}], none of them 0", first.saturating_add(6));
        refuse(Attention { v: columns(&v, first), ..good() }, y, shape("v", &expected, v.shape()));
    }
    let error = value_error("attention", "heads", "a divisor of 0 channels", "2");
    refuse(Attention { channels: 0, ..good() }, y, error);
    for heads in [0, 4] {
        let error = value_error("attention", "heads", "a divisor of 6 channels", &heads.to_string());
        refuse(Attention { heads, ..good() }, y, error);
    }
    refuse(good(), v.shape(), shape("y", "[2, 3, 6]", [2, 5, 7].into()));
}

fn concat<B: Host>(b: &B) {
    let (x, other, scalar) = (ones([2, 3, 6]), ones([2, 4, 6]), ones([]));
    let good = || Concat { a: &x, b: &x };
    let y: Shape = [2, 3, 12].into();
    b.concat(&good(), &mut ones(y)).unwrap();

    let refuse = |op: Concat<'_, B>, y: Shape, error| refused(y, error, |y| b.concat(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("concat", tensor, expected, got);
    refuse(Concat { b: &other, ..good() }, y, shape("b", "[2, 3, 6]", [2, 4, 6].into()));
    refuse(Concat { a: &scalar, b: &scalar }, [].into(), shape("a", "[.., A]", [].into()));
    refuse(good(), x.shape(), shape("y", "[2, 3, 12]", [2, 3, 6].into()));
}

fn rows<B: Host>(b: &B) {
    let (table, flat) = (ones([5, 7]), ones([5]));
    let good = || Rows { table: &table, rows: 3..5, items: 4 };
    let y: Shape = [4, 7].into();
    b.rows(&good(), &mut ones(y)).unwrap();

    let refuse = |op: Rows<'_, B>, y: Shape, error| refused(y, error, |y| b.rows(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("rows", tensor, expected, got);
    refuse(Rows { table: &flat, ..good() }, y, shape("table", "[rows, W], none of them 0", [5].into()));
    refuse(Rows { rows: 4..6, ..good() }, y, shape("table", "at least [6, 7]", [5, 7].into()));
    for (rows, items) in [(3..3, 4), (0..3, 4), (0..2, 0)] {
        let error =
            value_error("rows", "rows", &format!("a divisor of {items} items"), &rows.len().to_string());
        refuse(Rows { rows, items, ..good() }, y, error);
    }
    refuse(good(), [2, 7].into(), shape("y", "[4, 7]", [2, 7].into()));
}

fn enter<B: Host>(b: &B) {
    let (x, small, flat) = (ones([2, 4, 3, 3]), ones([2, 1, 3, 2]), ones([4, 3, 3]));
    let y: Shape = [4, 3, 3, 8].into();
    let two = [(1.0, &x), (2.0, &x)];
    b.enter(&Enter { parts: &two, copies: 2 }, &mut ones(y)).unwrap();

    let refuse = |parts: &[(f32, &B::Latent)], copies, y: Shape, error| {
        refused(y, error, |y| b.enter(&Enter { parts, copies }, y));
    };
    refuse(&[], 1, y, value_error("enter", "parts", "at least 1", "0"));
    refuse(&two, 0, y, value_error("enter", "copies", "at least 1", "0"));
    let unlike = "[N, C, H, W], none of them 0";
    refuse(&[(1.0, &flat)], 1, y, shape_error("enter", "parts", unlike, [4, 3, 3]));
    refuse(&[(1.0, &x), (1.0, &flat)], 1, y, shape_error("enter", "parts", unlike, [4, 3, 3]));
    refuse(&[(1.0, &x), (1.0, &small)], 1, y, shape_error("enter", "parts", "[2, C, 3, 3]", [2, 1, 3, 2]));
    refuse(&two, 1, y, shape_error("enter", "y", "[2, 3, 3, 8]", y));
}

fn leave<B: Host>(b: &B) {
    let (x, flat) = (ones([4, 3, 3, 6]), ones([4, 9, 6]));
    let good = || Leave { x: &x, branch: 1, branches: 2 };
    let y: Shape = [2, 6, 3, 3].into();
    b.leave(&good(), &mut ones(y)).unwrap();

    let refuse = |op: Leave<'_, B>, y: Shape, error| refused(y, error, |y| b.leave(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("leave", tensor, expected, got);
    let unlike = "[branches N, H, W, C], none of them 0";
    refuse(Leave { x: &flat, ..good() }, y, shape("x", unlike, [4, 9, 6].into()));
    refuse(Leave { branch: 2, ..good() }, y, value_error("leave", "branch", "below 2", "2"));
    refuse(Leave { branch: 0, branches: 0, ..good() }, y, value_error("leave", "branch", "below 0", "0"));
    refuse(Leave { branches: 3, ..good() }, y, shape("x", "[3 N, H, W, C]", [4, 3, 3, 6].into()));
    refuse(good(), [2, 3, 3, 6].into(), shape("y", "[2, 6, 3, 3]", [2, 3, 3, 6].into()));
}

fn combine<B: Host>(b: &B) {
    let (x, other): (B::Latent, B::Latent) = (ones([2, 4, 3, 3]), ones([1, 4, 3, 3]));
    let y = x.shape();
    b.combine(&Combine { terms: &[(0.5, &x)] }, &mut ones(y)).unwrap();

    let refuse = |terms: &[(f32, &B::Latent)], y: Shape, error| {
        refused(y, error, |y| b.combine(&Combine { terms }, y));
    };
    refuse(&[], y, value_error("combine", "terms", "at least 1", "0"));
    let error = shape_error("combine", "terms", "[2, 4, 3, 3]", [1, 4, 3, 3]);
    refuse(&[(1.0, &x), (1.0, &other)], y, error);
    for (coefficient, text) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let error = value_error("combine", "coefficient", "finite", text);
        refuse(&[(1.0, &x), (coefficient, &x)], y, error);
    }
    refuse(&[(1.0, &x)], other.shape(), shape_error("combine", "y", "[2, 4, 3, 3]", [1, 4, 3, 3]));
}

fn blend<B: Host>(b: &B) {
    let (x, flat): (B::Latent, B::Latent) = (ones([2, 4, 3, 3]), ones([4, 3, 3]));
    let mask = ones([1, 1, 3, 3]);
    let good = || Blend { a: &x, b: &x, mask: &mask };
    let y = x.shape();
    b.blend(&good(), &mut ones(y)).unwrap();

    let refuse = |op: Blend<'_, B>, y: Shape, error| refused(y, error, |y| b.blend(&op, y));
    let shape = |tensor, expected: &str, got: Shape| shape_error("blend", tensor, expected, got);
    refuse(Blend { a: &flat, ..good() }, y, shape("a", "[N, C, H, W], none of them 0", [4, 3, 3].into()));
    refuse(Blend { b: &mask, ..good() }, y, shape("b", "[2, 4, 3, 3]", [1, 1, 3, 3].into()));
    for wrong in [[3, 1, 3, 3], [1, 2, 3, 3], [1, 1, 1, 3], [1, 1, 3, 1]] {
        let mask = ones(wrong);
        refuse(Blend { mask: &mask, ..good() }, y, shape("mask", "[2 or 1, 4 or 1, 3, 3]", wrong.into()));
    }
    refuse(Blend { mask: &flat, ..good() }, y, shape("mask", "[2 or 1, 4 or 1, 3, 3]", [4, 3, 3].into()));
    refuse(good(), mask.shape(), shape("y", "[2, 4, 3, 3]", [1, 1, 3, 3].into()));
}

fn inject<B: Host>(b: &B) {
    let (x, other): (B::Latent, B::Latent) = (ones([2, 4, 3, 3]), ones([1, 4, 3, 3]));
    let y = x.shape();
    let draws =
        [1, 2, 3, 4, 5].map(|seed| Draw::Normal(NormalDraw { key: [seed, 0], counter: [0, 0], threads: 0 }));
    b.inject(&Inject { terms: &[(0.5, &x)], noise: (1.0, &draws[..2]) }, &mut ones(y)).unwrap();

    let refuse = |terms: &[(f32, &B::Latent)], noise: (f32, &[Draw]), error| {
        refused(y, error, |y| b.inject(&Inject { terms, noise }, y));
    };
    let error = shape_error("inject", "terms", "[2, 4, 3, 3]", [1, 4, 3, 3]);
    refuse(&[(1.0, &x), (1.0, &other)], (1.0, &draws[..1]), error);
    for (coefficient, strength, text) in [(f32::NAN, 1.0, "NaN"), (1.0, f32::INFINITY, "inf")] {
        let error = value_error("inject", "coefficient", "finite", text);
        refuse(&[(coefficient, &x)], (strength, &draws[..1]), error);
    }
    for parts in [0, 5] {
        let error = value_error("inject", "parts of the noise", "a divisor of 72", &parts.to_string());
        refuse(&[(1.0, &x)], (1.0, &draws[..parts]), error);
    }
}

fn pack_and_latents<B: Host>(b: &B) {
    let expected = "[M, K] or [O, kernel, kernel, C] with kernel odd";
    for wrong in [Shape::from([6]), [6, 3, 3].into(), [6, 2, 2, 3].into(), [6, 3, 1, 3].into()] {
        let error = shape_error("pack", "weight", expected, wrong);
        assert_eq!(b.pack(ones(wrong)).err(), Some(error));
    }
    let error = shape_error("write_latent", "host", "[1, 2, 3, 4]", [1, 2, 4, 3]);
    refused([1, 2, 3, 4], error, |latent| b.write_latent(&ones([1, 2, 4, 3]), latent));
}

fn memory<B: Host>(b: &B) {
    // More than an address space, and more than a count can hold.
    for shape in [Shape::from([1 << 30, 1 << 30]), [1 << 40, 1 << 40].into()] {
        for error in [b.empty(shape).err(), b.latent(shape).err()] {
            assert!(matches!(error, Some(Error::Value { what: "memory", .. })), "{error:?}");
        }
    }
}

/// What a rehearsal made has a shape and no memory to write to.
fn refuses_rehearsed_outputs<E: Compute>(cpu: &Cpu<E>)
where
    Cpu<E>: Host<Tensor = PooledTensor<E>>,
{
    let refused = |op: &'static str, shape: Shape, run: &dyn Fn(&mut PooledTensor<E>) -> Result<()>| {
        let values = shape.elements();
        let expected = format!("a tensor with memory for its {values} values, not of a rehearsal");
        let mut y = cpu.rehearsal().empty(shape).unwrap();
        assert_eq!(run(&mut y), Err(value_error(op, "y", &expected, "memory for 0")));
    };
    let (image, row): (PooledTensor<E>, PooledTensor<E>) = (ones([1, 8, 8, 64]), ones([64]));
    let (square, plain, nine) = (pack(cpu, [64, 64]), pack(cpu, [64, 1, 1, 64]), pack(cpu, [64, 3, 3, 64]));
    for weight in [&plain, &nine] {
        let (bias, shift, residual, activation) = (None, None, None, Activation::Identity);
        let op = Conv2d { x: &image, weight, bias, shift, residual, activation, stride: 1, upsample: None };
        refused("conv2d", image.shape(), &|y| cpu.conv2d(&op, y));
    }
    let activation = Activation::Identity;
    let op = Linear { x: &image, weight: &square, bias: None, residual: None, activation };
    refused("linear", image.shape(), &|y| cpu.linear(&op, y));
    let op = GroupNorm { x: &image, gamma: &row, beta: &row, groups: 8, eps: 1e-5, activation };
    refused("group_norm", image.shape(), &|y| cpu.group_norm(&op, y));
    let op = LayerNorm { x: &image, gamma: &row, beta: &row, eps: 1e-5 };
    refused("layer_norm", image.shape(), &|y| cpu.layer_norm(&op, y));
    let [q, k, v] = [0, 1, 2].map(|_| columns::<Cpu<E>>(&image, 0));
    let op = Attention { q, k, v, channels: 64, heads: 2 };
    refused("attention", image.shape(), &|y| cpu.attention(&op, y));
    let op = Concat { a: &image, b: &image };
    refused("concat", [1, 8, 8, 128].into(), &|y| cpu.concat(&op, y));
    let table = ones([3, 64]);
    refused("rows", [2, 64].into(), &|y| cpu.rows(&Rows { table: &table, rows: 1..2, items: 2 }, y));
    let latent = ones([1, 4, 8, 8]);
    refused("enter", [1, 8, 8, 4].into(), &|y| cpu.enter(&Enter { parts: &[(1.0, &latent)], copies: 1 }, y));
}

#[test]
fn a_cpu_refuses_to_write_to_what_a_rehearsal_made() {
    refuses_rehearsed_outputs(&Cpu::new());
    refuses_rehearsed_outputs(&Cpu::bf16());
}

/// Of sizes past all counting, shapes and costs are the largest numbers.
#[test]
fn no_size_overflows() {
    let sketch = Sketch(DType::F32);
    let empty = |shape: &[usize]| sketch.empty(Shape::try_from_slice(shape).unwrap()).unwrap();
    let (many, square, nine) = (empty(&[1 << 60, 64]), empty(&[64, 64]), empty(&[64, 3, 3, 64]));
    let (image, scale) = (empty(&[1 << 58, 2, 2, 64]), empty(&[64]));
    let activation = Activation::Identity;
    let op: Linear<'_, Sketch> = Linear { x: &many, weight: &square, bias: None, residual: None, activation };
    assert_eq!((op.flops(), op.bytes(&many)), (u64::MAX, u64::MAX));
    let (bias, shift, residual) = (None, None, Some(&image));
    let op: Conv2d<'_, Sketch> =
        Conv2d { x: &image, weight: &nine, bias, shift, residual, activation, stride: 1, upsample: None };
    assert_eq!((op.flops(), op.bytes(&image)), (u64::MAX, u64::MAX));
    let op: GroupNorm<'_, Sketch> =
        GroupNorm { x: &image, gamma: &scale, beta: &scale, groups: 8, eps: 1e-5, activation };
    assert_eq!((op.flops(), op.bytes(&image)), (u64::MAX, u64::MAX));
    let op: LayerNorm<'_, Sketch> = LayerNorm { x: &many, gamma: &scale, beta: &scale, eps: 1e-5 };
    assert_eq!((op.flops(), op.bytes(&many)), (u64::MAX, u64::MAX));
    let [q, k, v] = [0, 1, 2].map(|_| Columns { tensor: &image, first: 0 });
    let op: Attention<'_, Sketch> = Attention { q, k, v, channels: 64, heads: 2 };
    assert_eq!((op.flops(), op.bytes(&image)), (u64::MAX, u64::MAX));
    let (combine, blend): (Combine<'_, Sketch>, Blend<'_, Sketch>) =
        (Combine { terms: &[(1.0, &many), (1.0, &many)] }, Blend { a: &image, b: &image, mask: &image });
    assert_eq!((combine.flops(), blend.flops()), (u64::MAX, u64::MAX));
    assert_eq!((combine.bytes(&many), blend.bytes(&image)), (u64::MAX, u64::MAX));

    let wide = empty(&[1, usize::MAX]);
    assert_eq!(Concat::<Sketch> { a: &wide, b: &wide }.check(), Ok([1, usize::MAX].into()));
    let enter: Enter<'_, Sketch> = Enter { parts: &[(1.0, &image)], copies: 1 << 20 };
    assert_eq!(enter.check(), Ok([usize::MAX, 2, 64, 2].into()));
    assert_eq!(Shape::from([1 << 40, 1 << 40, 3]).rows(), usize::MAX);

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/unet_sd15");
    let unet = Arc::new(UNet::load(Arc::new(Cpu::new()), folder).unwrap());
    for batch in [1 << 36, 1 << 44, 1 << 60, usize::MAX] {
        let plan = unet.plan(batch, [8, 8], 77).map(drop);
        assert!(matches!(plan, Err(Error::Value { what: "memory", .. })), "{batch}: {plan:?}");
    }
}

macro_rules! refusals {
    ($name:ident, $backend:expr) => {
        mod $name {
            use super::*;
            refusals! { $backend;
                linear conv2d group_norm layer_norm attention concat rows enter leave combine blend inject pack_and_latents memory
            }
        }
    };
    ($backend:expr; $($case:ident)*) => {
        $(#[test]
        fn $case() {
            super::$case(&$backend);
        })*
    };
}

refusals!(cpu, Cpu::new());
refusals!(reference, Reference::<f64>::new());
