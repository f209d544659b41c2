use bytemuck::{Pod, Zeroable};

use super::launch::{args, count};
use super::{Compute, Cuda, DeviceTensor, Launcher, Plan};
use crate::error::Result;
use crate::ops::Combine;
use crate::tensor::{DType, Shaped};

/// Values of a thread: 16 bytes.
const VALUES: u32 = 4;
/// Terms of one launch.
pub(super) const MOST_TERMS: usize = 16;

/// As `kernels/common/terms.cuh` has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Terms {
    x: [u64; MOST_TERMS],
    coefficient: [f32; MOST_TERMS],
    count: u32,
    padding: u32,
}

impl Terms {
    pub(super) fn new(terms: impl Iterator<Item = (f32, u64)>) -> Self {
        let mut all = Terms::zeroed();
        for ((x, coefficient), term) in all.x.iter_mut().zip(&mut all.coefficient).zip(terms) {
            (*coefficient, *x) = term;
            all.count += 1;
        }
        all
    }
}

fn plan(n: u32) -> Plan {
    Plan::one_thread_each("combine", DType::F32, n.div_ceil(VALUES))
}

pub(super) fn combine<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Combine<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, f32>,
) -> Result<()> {
    let n = count("combine", "elements", y.shape().elements())?;
    combine_terms(cuda, op.terms.iter().map(|(coefficient, x)| (*coefficient, x.pointer())), y.pointer(), n)
}

/// More terms than one launch takes are added to what came of those before.
pub(super) fn combine_terms<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    terms: impl IntoIterator<Item = (f32, u64)>,
    y: u64,
    n: u32,
) -> Result<()> {
    let mut terms = terms.into_iter().peekable();
    let first = Terms::new(terms.by_ref().take(MOST_TERMS));
    cuda.launch(&plan(n), args![first, y, n])?;
    while terms.peek().is_some() {
        let more = Terms::new(std::iter::once((1.0, y)).chain(terms.by_ref().take(MOST_TERMS - 1)));
        cuda.launch(&plan(n), args![more, y, n])?;
    }
    Ok(())
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
