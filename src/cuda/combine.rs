use bytemuck::{Pod, Zeroable};

use super::launch::{Launcher, Plan, args, launch};
use super::{Compute, Cuda, DeviceTensor};
use crate::error::{Error, Result};
use crate::ops::Combine;
use crate::tensor::{DType, Shaped};

/// Threads of a block.
const THREADS: u32 = 256;
/// Values of a thread: 16 bytes.
const VALUES: u32 = 4;
/// Terms of one launch.
const MOST_TERMS: usize = 16;

/// As `kernels/combine.cu` has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Terms {
    x: [u64; MOST_TERMS],
    coefficient: [f32; MOST_TERMS],
    count: u32,
    padding: u32,
}

impl Terms {
    fn new(terms: impl Iterator<Item = (f32, u64)>) -> Self {
        let mut all = Terms::zeroed();
        for ((x, coefficient), term) in all.x.iter_mut().zip(&mut all.coefficient).zip(terms) {
            (*coefficient, *x) = term;
            all.count += 1;
        }
        all
    }
}

fn plan(n: u32) -> Plan {
    let grid = [n.div_ceil(VALUES * THREADS), 1, 1];
    Plan { kernel: "combine", element: DType::F32, grid, block: [THREADS, 1, 1], shared_memory: 0 }
}

pub(super) fn combine<L: Launcher, E: Compute>(
    launcher: &L,
    op: &Combine<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, f32>,
) -> Result<()> {
    let n = count("combine", y.shape().elements())?;
    let plan = plan(n);
    let pointers = |terms: &[(f32, &DeviceTensor<L, f32>)]| -> Vec<(f32, u64)> {
        terms.iter().map(|(coefficient, x)| (*coefficient, x.pointer())).collect()
    };
    let (first, rest) = op.terms.split_at(op.terms.len().min(MOST_TERMS));
    launch(launcher, &plan, args![Terms::new(pointers(first).into_iter()), y.pointer(), n])?;
    for more in rest.chunks(MOST_TERMS - 1) {
        let terms = Terms::new([(1.0, y.pointer())].into_iter().chain(pointers(more)));
        launch(launcher, &plan, args![terms, y.pointer(), n])?;
    }
    Ok(())
}

/// A number of values as kernels count them, with room for the threads past the last.
pub(super) fn count(op: &'static str, elements: usize) -> Result<u32> {
    match u32::try_from(elements) {
        Ok(n) if n <= 1 << 31 => Ok(n),
        _ => {
            let (what, expected) = ("elements", "at most 2^31".into());
            Err(Error::Value { op, what, expected, got: elements.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_covers_every_value_once() {
        for (n, blocks) in [(0, 0), (1, 1), (1023, 1), (1024, 1), (1025, 2), (1 << 31, 1 << 21)] {
            assert_eq!(plan(n).grid, [blocks, 1, 1], "{n}");
        }
    }
}
