use super::launch::{args, count};
use super::{Compute, Cuda, DeviceTensor, Launcher, Plan};
use crate::error::Result;
use crate::ops::Concat;
use crate::tensor::{DType, Shaped};

/// How many elements a thread moves: 16 bytes of them where no row is cut, else one.
fn lanes(a: usize, b: usize, element: usize) -> usize {
    let lanes = 16 / element;
    if a.is_multiple_of(lanes) && b.is_multiple_of(lanes) { lanes } else { 1 }
}

fn plan(element: DType, units: u32) -> Plan {
    Plan::one_thread_each("concat", element, units)
}

pub(super) fn concat<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Concat<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, E>,
) -> Result<()> {
    let elements = count("concat", "elements", y.shape().elements())?;
    let (a, b) = (op.a.shape().channels(), op.b.shape().channels());
    let lanes = lanes(a, b, size_of::<E>()) as u32;
    let (units_a, units_b, units) = (a as u32 / lanes, b as u32 / lanes, elements / lanes);
    let (a, b) = (op.a.pointer(), op.b.pointer());
    cuda.launch(&plan(E::DTYPE, units), args![a, b, y.pointer(), units_a, units_b, units, lanes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_go_at_once_where_no_row_is_cut() {
        for ((a, b, element), expected) in [
            ((320, 640, 2), 8),
            ((320, 4, 2), 1),
            ((4, 4, 4), 4),
            ((4, 4, 2), 1),
            ((0, 8, 2), 8),
            ((1, 0, 4), 1),
        ] {
            assert_eq!(lanes(a, b, element), expected, "{a} {b} {element}");
        }
    }
}
