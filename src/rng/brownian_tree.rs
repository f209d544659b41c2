use serde::{Deserialize, Serialize};

use super::{Mt19937, SeedSequence};
use crate::error::{Error, Result};

/// Words of entropy per node, as torchsde's `BrownianTree` sets it.
const POOL_SIZE: usize = 24;
/// Times are rounded to multiples of one over this.
const TICKS: f64 = 1e6;
/// The largest time; with the rounding, it bounds the depth of the tree at 42.
const MAX_TIME: f64 = 1e6;
/// Elements that go down the tree together, so that a path's values stay in the nearest cache.
const BLOCK: usize = 2048;

/// One Brownian path per element, fixed by a seed alone: `torchsde.BrownianTree` (0.2.6) with its default
/// tolerance of 1e-6 and pool size of 24.
///
/// The increment over an interval does not depend on what was asked before. Times are rounded to multiples of
/// 1e-6, and the path stands still outside of `[t0, t1]`.
///
/// Between queries it keeps the values that a query which shares an end with the last one needs again: up to
/// 50 times `elements` values for an interval of a typical length.
#[derive(Debug, Clone)]
pub struct BrownianTree {
    seeds: SeedSequence,
    root: Node,
    /// The increment over the whole of `[t0, t1]`.
    w: Vec<f32>,
    queries: u64,
    spare: Vec<Vec<f32>>,
    blocks: Vec<Vec<f32>>,
}

/// A dyadic interval.
#[derive(Debug, Clone)]
struct Node {
    start: f64,
    end: f64,
    depth: u32,
    /// Its place among the nodes of its depth.
    key: u64,
    halves: Option<Box<Halves>>,
}

#[derive(Debug, Clone)]
struct Halves {
    left: Node,
    right: Node,
    /// The increment over the left half, as far as it was drawn.
    left_w: Vec<f32>,
    noise: Mt19937,
    last_query: u64,
}

/// The part of a query that concerns one block of elements.
struct Query<'a> {
    number: u64,
    start: f64,
    end: f64,
    seeds: &'a SeedSequence,
    elements: std::ops::Range<usize>,
    out: &'a mut [f32],
    spare: &'a mut Vec<Vec<f32>>,
    blocks: &'a mut Vec<Vec<f32>>,
}

impl BrownianTree {
    /// The paths of `elements` values from time `t0` to `t1`, all determined by `seed`.
    ///
    /// # Errors
    /// [`Error::Value`] unless -1e6 <= `t0` <= `t1` <= 1e6.
    pub fn new(seed: u64, elements: usize, t0: f64, t1: f64) -> Result<Self> {
        if !(-MAX_TIME <= t0 && t0 <= t1 && t1 <= MAX_TIME) {
            return Err(Error::Value {
                op: "brownian tree",
                what: "range of times",
                expected: "ordered and within [-1e6, 1e6]".to_owned(),
                got: format!("[{t0}, {t1}]"),
            });
        }
        let seeds = SeedSequence::with_pool_size(&[seed as u32, (seed >> 32) as u32], POOL_SIZE);
        let mut w = vec![0.0; elements];
        let [w_seed] = seeds.generate_state();
        Mt19937::new(w_seed.into()).randn(&mut w);
        let deviation = (t1 - t0).sqrt() as f32;
        w.iter_mut().for_each(|w| *w *= deviation);
        let root = Node { start: round(t0), end: round(t1), depth: 0, key: 0, halves: None };
        Ok(BrownianTree { seeds, root, w, queries: 0, spare: Vec::new(), blocks: Vec::new() })
    }

    /// Writes W(`tb`) - W(`ta`), which has variance |`tb` - `ta`|, to `out`. Zero for an interval that lies
    /// outside of `[t0, t1]` or is shorter than the rounding of times.
    ///
    /// # Errors
    /// [`Error::Value`] if a time is not finite; [`Error::Shape`] if `out` does not hold one value per element.
    pub fn increment(&mut self, ta: f64, tb: f64, out: &mut [f32]) -> Result<()> {
        if out.len() != self.w.len() {
            return Err(wrong_length("brownian tree", self.w.len(), out.len()));
        }
        let (start, end) = self.resolve(ta, tb)?;
        out.fill(0.0);
        if start < end {
            self.add_increment(start, end, out);
        }
        if ta > tb {
            out.iter_mut().for_each(|w| *w = -*w);
        }
        Ok(())
    }

    /// The two times in order, each moved into the tree's range and rounded.
    fn resolve(&self, ta: f64, tb: f64) -> Result<(f64, f64)> {
        if !(ta.is_finite() && tb.is_finite()) {
            return Err(Error::Value {
                op: "brownian tree",
                what: "interval",
                expected: "finite".to_owned(),
                got: format!("[{ta}, {tb}]"),
            });
        }
        let resolve = |t: f64| round(t.max(self.root.start).min(self.root.end));
        Ok((resolve(ta.min(tb)), resolve(ta.max(tb))))
    }

    fn add_increment(&mut self, start: f64, end: f64, out: &mut [f32]) {
        self.queries += 1;
        // The last block takes the remainder: what it draws must end as a draw of all the elements would.
        let blocks = (self.w.len() / BLOCK).max(1);
        for block in 0..blocks {
            let last = if block + 1 == blocks { self.w.len() } else { (block + 1) * BLOCK };
            let elements = block * BLOCK..last;
            self.root.add_increment(
                &self.w[elements.clone()],
                &mut Query {
                    number: self.queries,
                    start,
                    end,
                    seeds: &self.seeds,
                    out: &mut out[elements.clone()],
                    elements,
                    spare: &mut self.spare,
                    blocks: &mut self.blocks,
                },
            );
        }
        self.root.prune(self.queries, &mut self.spare);
    }
}

impl Node {
    /// Adds what the path moves within both this node and the query; `w` is what it moves within this node.
    fn add_increment(&mut self, w: &[f32], query: &mut Query) {
        if query.start <= self.start && self.end <= query.end {
            query.out.iter_mut().zip(w).for_each(|(out, w)| *out += w);
            return;
        }
        let halves = self.split(query);
        halves.last_query = query.number;
        halves.draw(w, query.elements.end);
        let Halves { left, right, left_w, .. } = halves;
        let left_w = &left_w[query.elements.clone()];
        if query.start < left.end {
            left.add_increment(left_w, query);
        }
        if right.start < query.end {
            let mut right_w = query.blocks.pop().unwrap_or_default();
            right_w.clear();
            right_w.extend(w.iter().zip(left_w).map(|(w, left)| w - left));
            right.add_increment(&right_w, query);
            query.blocks.push(right_w);
        }
    }

    fn split(&mut self, query: &mut Query) -> &mut Halves {
        let Node { start, end, depth, key, ref mut halves } = *self;
        halves.get_or_insert_with(|| {
            let midway = round(0.5 * (start + end));
            let (low, high) = (key as u32, (key >> 32) as u32);
            let seeds = match high {
                0 => query.seeds.child(&[low, depth]),
                _ => query.seeds.child(&[low, high, depth]),
            };
            let [w_seed] = seeds.generate_state();
            let mut left_w = query.spare.pop().unwrap_or_default();
            left_w.clear();
            let half = |start, end, key| Node { start, end, depth: depth + 1, key, halves: None };
            Box::new(Halves {
                left: half(start, midway, 2 * key),
                right: half(midway, end, 2 * key + 1),
                left_w,
                noise: Mt19937::new(w_seed.into()),
                last_query: query.number,
            })
        })
    }

    /// Gives back what the last query did not need.
    fn prune(&mut self, last_query: u64, spare: &mut Vec<Vec<f32>>) {
        let Some(mut halves) = self.halves.take() else { return };
        halves.left.prune(last_query, spare);
        halves.right.prune(last_query, spare);
        if halves.last_query == last_query {
            self.halves = Some(halves);
        } else {
            spare.push(halves.left_w);
        }
    }
}

impl Halves {
    /// Draws the left half's increment, up to element `end`, from the Brownian bridge over both halves.
    ///
    /// `w` is the increment over both, for the elements that end there.
    fn draw(&mut self, w: &[f32], end: usize) {
        let drawn = self.left_w.len();
        if drawn >= end {
            return;
        }
        let per_time = 1.0 / (self.right.end - self.left.start);
        let (left, right) = (self.left.end - self.left.start, self.right.end - self.right.start);
        let deviation = (left * right * per_time).sqrt() as f32;
        // Rounded where torch rounds: the mean is the product of three numbers, from left to right.
        let (left, per_time) = (left as f32, per_time as f32);
        self.left_w.resize(end, 0.0);
        let new = &mut self.left_w[drawn..];
        self.noise.randn(new);
        for (left_w, w) in new.iter_mut().zip(w) {
            *left_w = left * w * per_time + deviation * *left_w;
        }
    }
}

/// The nearest multiple of 1e-6, ties to even: Python's `round(t, 6)`, for |t| <= 1e6.
fn round(t: f64) -> f64 {
    let ticks = t * TICKS;
    let floor = ticks.floor();
    // The product's rounding error decides what looks like a tie.
    let above_half = (ticks - floor - 0.5) + t.mul_add(TICKS, -ticks);
    let up = above_half > 0.0 || (above_half == 0.0 && floor % 2.0 != 0.0);
    (floor + f64::from(u8::from(up))) / TICKS
}

/// The noise of k-diffusion's stochastic samplers: increments of Brownian paths over sigma, scaled to unit
/// variance. `BrownianTreeNoiseSampler(x, sigma_min, sigma_max, seed, cpu=True)` of ComfyUI 0.3.64.
///
/// Steps of any number over the same sigmas see the same path, which is what keeps an image's composition when
/// the number of steps changes.
#[derive(Debug, Clone)]
pub struct BrownianNoise {
    trees: Vec<BrownianTree>,
    paths: BrownianPaths,
}

/// What fixes a [`BrownianNoise`]: it can be made again from this at any time, since it has no place to go on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrownianPaths {
    /// One for each item.
    pub seeds: Vec<u64>,
    /// Values in an item.
    pub elements: usize,
    /// The lowest level.
    pub sigma_min: f32,
    /// The highest level.
    pub sigma_max: f32,
}

impl BrownianNoise {
    /// Noise for a tensor of `elements` values from one seed.
    ///
    /// # Errors
    /// [`Error::Value`] unless -1e6 <= `sigma_min` <= `sigma_max` <= 1e6.
    pub fn new(seed: u64, elements: usize, sigma_min: f32, sigma_max: f32) -> Result<Self> {
        Self::batched(&[seed], elements, sigma_min, sigma_max)
    }

    /// Noise for a batch with one seed per item, where each item has `elements` values and is what
    /// [`BrownianNoise::new`] makes of its seed.
    ///
    /// # Errors
    /// [`Error::Value`] unless -1e6 <= `sigma_min` <= `sigma_max` <= 1e6.
    pub fn batched(seeds: &[u64], elements: usize, sigma_min: f32, sigma_max: f32) -> Result<Self> {
        let tree = |&seed| BrownianTree::new(seed, elements, sigma_min.into(), sigma_max.into());
        let trees = seeds.iter().map(tree).collect::<Result<_>>()?;
        Ok(BrownianNoise {
            trees,
            paths: BrownianPaths { seeds: seeds.to_vec(), elements, sigma_min, sigma_max },
        })
    }

    /// What it was made from.
    pub fn paths(&self) -> &BrownianPaths {
        &self.paths
    }

    /// Writes (W(`sigma_next`) - W(`sigma`)) / sqrt(|`sigma_next` - `sigma`|) to `out`, item after item.
    ///
    /// A sigma outside of `[sigma_min, sigma_max]` counts as the nearer end in the numerator, as the reference
    /// has it.
    ///
    /// # Errors
    /// [`Error::Value`] if a sigma is not finite, or if the part of the interval that lies within
    /// `[sigma_min, sigma_max]` is shorter than the path's resolution of 1e-6, so that there is no noise to
    /// scale; [`Error::Shape`] if `out` does not hold one value per element.
    pub fn noise(&mut self, sigma: f32, sigma_next: f32, out: &mut [f32]) -> Result<()> {
        let elements = self.trees.iter().map(|tree| tree.w.len()).sum();
        if out.len() != elements {
            return Err(wrong_length("brownian noise", elements, out.len()));
        }
        let Some(first) = self.trees.first() else { return Ok(()) };
        let (ta, tb) = (f64::from(sigma), f64::from(sigma_next));
        let (start, end) = first.resolve(ta, tb)?;
        if start >= end {
            return Err(Error::Value {
                op: "brownian noise",
                what: "interval",
                expected: format!("1e-6 long within [{}, {}]", first.root.start, first.root.end),
                got: format!("[{sigma}, {sigma_next}]"),
            });
        }
        let item = first.w.len().max(1);
        for (tree, out) in self.trees.iter_mut().zip(out.chunks_exact_mut(item)) {
            tree.increment(ta, tb, out)?;
        }
        let deviation = (sigma_next - sigma).abs().sqrt();
        out.iter_mut().for_each(|noise| *noise /= deviation);
        Ok(())
    }
}

fn wrong_length(op: &'static str, expected: usize, got: usize) -> Error {
    Error::Shape { op, tensor: "out", expected: format!("[{expected}]"), got: [got].into() }
}

#[cfg(test)]
mod tests {
    use super::round;
    use proptest::prelude::*;

    /// Correctly rounded decimal, by way of text.
    fn round_in_decimal(t: f64) -> f64 {
        format!("{t:.6}").parse().unwrap()
    }

    proptest! {
        #[test]
        fn rounds_as_decimal_text_does(t in -1e6..1e6f64, small in -50.0..50.0f64, ties in -1_000_000..1_000_000i64) {
            for t in [t, small, ties as f64 / 128.0, ties as f64 / 2e6, ties as f64 / 1e6] {
                prop_assert_eq!(round(t), round_in_decimal(t));
            }
        }
    }
}
