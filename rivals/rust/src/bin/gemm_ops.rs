//! Products of single precision by the `gemm` crate: `gemm_ops BATCH PASSES CASE ...`
//!
//! The product alone: no bias, no residual, into memory that is there. Only linear layers without GEGLU are run.

use std::convert::Infallible;

use gemm::{Parallelism, gemm};
use rivals::{Arguments, Case, measure, values};

fn main() {
    let arguments = Arguments::read().expect("gemm_ops BATCH PASSES CASE ...");
    for case in arguments.cases.iter().filter(|case| case.name == "linear" && !case.has("GEGLU")) {
        let Ok(()) = linear(&arguments, case);
    }
}

fn linear(&Arguments { batch, passes, .. }: &Arguments, case: &Case) -> Result<(), Infallible> {
    let [ref rows @ .., k, n] = case.sizes[..] else { return Ok(()) };
    let m = batch * rows.iter().product::<usize>();
    let (x, weight, mut y) = (values(m * k, 1.0), values(n * k, (k as f32).sqrt().recip()), vec![0.0; m * n]);
    measure(&case.what, batch, passes, || {
        product([m, n, k], &x, &weight, &mut y);
        Ok(())
    })
}

/// `y = x weight^T`: x is [m, k], the weight [n, k], y [m, n].
#[rustfmt::skip]
fn product([m, n, k]: [usize; 3], x: &[f32], weight: &[f32], y: &mut [f32]) {
    assert_eq!([x.len(), weight.len(), y.len()], [m * k, n * k, m * n]);
    let (inputs, outputs) = (k as isize, n as isize);
    // SAFETY: each matrix has its size, as was just checked, and lies row after row; y is borrowed alone.
    unsafe {
        gemm(
            m, n, k,
            y.as_mut_ptr(), 1, outputs, false,
            x.as_ptr(), 1, inputs,
            weight.as_ptr(), inputs, 1,
            0.0, 1.0,
            false, false, false,
            Parallelism::Rayon(0),
        );
    }
}
