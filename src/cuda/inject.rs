use bytemuck::{Pod, Zeroable};

use super::combine::{MOST_TERMS, Terms, combine_terms};
use super::launch::{args, count};
use super::{Compute, Cuda, DeviceTensor, Launcher, Plan};
use crate::error::{Error, Result};
use crate::ops::Inject;
use crate::rng::{self, NormalDraw, PathDraw};
use crate::tensor::{DType, Shaped};

/// Values of a thread: 16 bytes.
const VALUES: u32 = 4;
/// Parts of one launch.
const MOST_PARTS: usize = 16;
/// Steps of a walk: two from the root of a tree to its leaves, where they part, and back.
const MOST_STEPS: usize = 86;

/// These are as `kernels/inject.cu` has them.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Draw {
    key: [u32; 2],
    counter: [u32; 2],
    threads: u32,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Normals {
    strength: f32,
    draw: [Draw; MOST_PARTS],
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Step {
    seed: u32,
    action: u32,
    left: f32,
    per_time: f32,
    deviation: f32,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Path {
    strength: f32,
    normals: Draw,
    seed: u32,
    deviation: f32,
    divisor: f32,
    count: u32,
    steps: [Step; MOST_STEPS],
}

impl From<&NormalDraw> for Draw {
    fn from(&NormalDraw { key, counter, threads }: &NormalDraw) -> Self {
        Draw { key, counter, threads }
    }
}

impl Normals {
    fn new(strength: f32, draws: impl Iterator<Item = Draw>) -> Self {
        let mut normals = Normals { strength, ..Self::zeroed() };
        normals.draw.iter_mut().zip(draws).for_each(|(to, from)| *to = from);
        normals
    }
}

impl Path {
    fn new(strength: f32, path: &PathDraw) -> Result<Self> {
        let count = path.steps.len();
        if count > MOST_STEPS {
            let (what, expected) = ("steps of a path", format!("at most {MOST_STEPS}"));
            return Err(Error::Value { op: "inject", what, expected, got: count.to_string() });
        }
        let mut steps = [Step::zeroed(); MOST_STEPS];
        for (to, from) in steps.iter_mut().zip(&path.steps) {
            let (left, per_time, deviation) = (from.left, from.per_time, from.deviation);
            *to = Step { seed: from.seed, action: from.action as u32, left, per_time, deviation };
        }
        Ok(Path {
            strength,
            normals: (&path.normals).into(),
            seed: path.seed,
            deviation: path.deviation,
            divisor: path.divisor,
            count: count as u32,
            steps,
        })
    }
}

/// Threads for `values` values of each of `parts` parts.
fn plan(kernel: &'static str, values: u32, parts: u32) -> Plan {
    let mut plan = Plan::one_thread_each(kernel, DType::F32, values.div_ceil(VALUES));
    plan.grid[1] = parts;
    plan
}

/// Terms beyond what one launch takes are combined before it.
pub(super) fn inject<L: Launcher, E: Compute>(
    cuda: &Cuda<L, E>,
    op: &Inject<'_, Cuda<L, E>>,
    y: &mut DeviceTensor<L, f32>,
) -> Result<()> {
    let elements = count("inject", "elements", y.shape().elements())?;
    let (strength, draws) = op.noise;
    let n = elements / draws.len() as u32;
    let mut terms: Vec<(f32, u64)> =
        op.terms.iter().map(|(coefficient, x)| (*coefficient, x.pointer())).collect();
    if terms.len() > MOST_TERMS {
        combine_terms(cuda, terms, y.pointer(), elements)?;
        terms = vec![(1.0, y.pointer())];
    }
    let (terms, y) = (Terms::new(terms.into_iter()), y.pointer());
    let mut part = 0u32;
    for alike in draws.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
        for draws in alike.chunks(MOST_PARTS) {
            let parts = draws.len() as u32;
            let normals = draws.iter().filter_map(|draw| match draw {
                rng::Draw::Normal(draw) => Some(Draw::from(draw)),
                rng::Draw::Path(_) => None,
            });
            if let rng::Draw::Normal(_) = draws[0] {
                let normals = Normals::new(strength, normals);
                cuda.launch(&plan("inject_normals", n, parts), args![terms, normals, y, part, n])?;
            }
            for (path, part) in draws.iter().zip(part..) {
                if let rng::Draw::Path(path) = path {
                    cuda.launch(
                        &plan("inject_path", n, 1),
                        args![terms, Path::new(strength, path)?, y, part, n],
                    )?;
                }
            }
            part += parts;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_every_part_has_a_thread() {
        assert_eq!(plan("inject_normals", 4 * 64 * 64, 8).grid, [16, 8, 1]);
        assert_eq!(plan("inject_path", 1025, 1).grid, [2, 1, 1]);
    }

    #[test]
    fn parameters_fit_where_kernels_take_them() {
        assert!(size_of::<Terms>() + size_of::<Path>() + 16 <= 4096);
    }
}
