use noisefork::ops::{Concat, Enter, Leave, Rows};
use noisefork::tensor::{Element, Tensor};
use proptest::prelude::*;

use crate::case::{
    Case, Readable, Values, extent, extent_or_none, latent, unwritten, unwritten_latent, upload,
};

#[derive(Debug, Clone)]
pub struct ConcatCase {
    rows: [usize; 2],
    a: usize,
    b: usize,
    seed: u64,
}

impl Case for ConcatCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let (mut values, [n, rows]) = (Values(self.seed), self.rows);
        let [a, b] = [self.a, self.b]
            .map(|channels| upload::<S, _>(backend, &values.tensor([n, rows, channels], 1.0)));
        let op = Concat { a: &a, b: &b };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.concat(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }

    /// Nothing is computed.
    fn floor<S: Element>(&self, _: &[f64]) -> f64 {
        0.0
    }

    fn large() -> Vec<Self> {
        vec![ConcatCase { rows: [2, 513], a: 97, b: 61, seed: 1 }]
    }

    fn any() -> BoxedStrategy<Self> {
        (
            1..3usize,
            extent_or_none(&[64], 140),
            extent_or_none(&[16], 40),
            extent_or_none(&[16], 40),
            any::<u64>(),
        )
            .prop_map(|(n, rows, a, b, seed)| ConcatCase { rows: [n, rows], a, b, seed })
            .boxed()
    }
}

#[derive(Debug, Clone)]
pub struct RowsCase {
    table: [usize; 2],
    first: usize,
    rows: usize,
    items: usize,
    seed: u64,
}

impl Case for RowsCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let table = upload::<S, _>(backend, &Values(self.seed).tensor(self.table, 1.0));
        let op = Rows { table: &table, rows: self.first..self.first + self.rows, items: self.items };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.rows(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }

    /// Nothing is computed.
    fn floor<S: Element>(&self, _: &[f64]) -> f64 {
        0.0
    }

    fn large() -> Vec<Self> {
        vec![RowsCase { table: [20, 1283], first: 7, rows: 2, items: 6, seed: 1 }]
    }

    fn any() -> BoxedStrategy<Self> {
        (0..5usize, 1..4usize, 1..4usize, 0..3usize, extent(&[16], 40), any::<u64>())
            .prop_map(|(first, rows, each, after, width, seed)| {
                let table = [first + rows + after, width];
                RowsCase { table, first, rows, items: rows * each, seed }
            })
            .boxed()
    }
}

#[derive(Debug, Clone)]
pub struct EnterCase {
    items: usize,
    plane: [usize; 2],
    channels: Vec<usize>,
    copies: usize,
    seed: u64,
}

impl Case for EnterCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let (mut values, [h, w]) = (Values(self.seed), self.plane);
        let part = |&c: &usize| latent(backend, &values.tensor([self.items, c, h, w], 1.0));
        let latents: Vec<B::Latent> = self.channels.iter().map(part).collect();
        let parts: Vec<(f32, &B::Latent)> = [0.18215, 1.0, -3.7].into_iter().zip(&latents).collect();
        let op = Enter { parts: &parts, copies: self.copies };
        let mut y = unwritten(backend, op.check().expect("a valid case"));
        backend.enter(&op, &mut y).expect("a valid case");
        backend.tensor(&y)
    }

    /// One rounding, the rival's.
    fn floor<S: Element>(&self, _: &[f64]) -> f64 {
        0.0
    }

    fn large() -> Vec<Self> {
        vec![EnterCase { items: 2, plane: [61, 67], channels: vec![4, 1, 4], copies: 2, seed: 1 }]
    }

    fn any() -> BoxedStrategy<Self> {
        (
            1..4usize,
            [extent(&[8], 17), extent(&[8], 17)],
            prop::collection::vec(1..6usize, 1..4),
            1..4usize,
            any::<u64>(),
        )
            .prop_map(|(items, plane, channels, copies, seed)| EnterCase {
                items,
                plane,
                channels,
                copies,
                seed,
            })
            .boxed()
    }
}

#[derive(Debug, Clone)]
pub struct LeaveCase {
    items: usize,
    plane: [usize; 2],
    channels: usize,
    branch: usize,
    branches: usize,
    seed: u64,
}

impl Case for LeaveCase {
    fn run<S: Element, B: Readable>(&self, backend: &B) -> Tensor<f64> {
        let [h, w] = self.plane;
        let shape = [self.branches * self.items, h, w, self.channels];
        let x = upload::<S, _>(backend, &Values(self.seed).tensor(shape, 1.0));
        let op = Leave { x: &x, branch: self.branch, branches: self.branches };
        let mut y = unwritten_latent(backend, op.check().expect("a valid case"));
        backend.leave(&op, &mut y).expect("a valid case");
        Readable::latent(backend, &y)
    }

    /// Nothing is computed.
    fn floor<S: Element>(&self, _: &[f64]) -> f64 {
        0.0
    }

    fn large() -> Vec<Self> {
        vec![LeaveCase { items: 3, plane: [61, 67], channels: 5, branch: 1, branches: 2, seed: 1 }]
    }

    fn any() -> BoxedStrategy<Self> {
        (1..4usize, [extent(&[8], 17), extent(&[8], 17)], extent(&[4], 9), 0..3usize, 1..3usize, any::<u64>())
            .prop_map(|(items, plane, channels, branch, more, seed)| LeaveCase {
                items,
                plane,
                channels,
                branch,
                branches: branch + more,
                seed,
            })
            .boxed()
    }
}
