use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::mt19937::parts;
use super::normals::Draw;
use super::{Normals, SeedSequence};
use crate::error::{Error, Result};
use crate::simd::vectorised;

/// Words of entropy per node, as torchsde's `BrownianTree` sets it.
const POOL_SIZE: usize = 24;
/// Times are rounded to multiples of one over this.
const TICKS: f64 = 1e6;
/// The largest time; with the rounding, it bounds the depth of the tree at 42.
const MAX_TIME: f64 = 1e6;
/// Elements that go down the tree together, so that a path's values stay in the nearest cache.
const BLOCK: usize = 2048;
/// Elements, a multiple of [`BLOCK`], whose noise for all new nodes is drawn before it is used. A node's noise is a
/// sequence, so threads share the nodes there, and the blocks here. Half and a quarter of it are no faster, nor are
/// blocks of half and twice the size.
const WAVE: usize = 1 << 14;
/// Values to draw below which waking other threads costs more than it saves.
const WORTH_SHARING: usize = 1 << 15;

/// One Brownian path per element, fixed by a seed alone: `torchsde.BrownianTree` (0.2.6) with its default
/// tolerance of 1e-6 and pool size of 24.
///
/// The increment over an interval does not depend on what was asked before. Times are rounded to multiples of
/// 1e-6, and the path stands still outside of `[t0, t1]`.
///
/// Between queries it keeps the values that a query which shares an end with the last one needs again: up to
/// 50 times `elements` values for an interval of a typical length.
///
/// # Cost
/// A step to a new time draws a value per element at each of the 20 or so levels of the tree below the steps seen
/// before, computes with it once, and keeps it: there is no less to do. The draws, 0.75 ns each, are most of it.
#[derive(Debug, Clone)]
pub struct BrownianTree {
    normals: Normals,
    seeds: SeedSequence,
    root: Node,
    /// The increment over the whole of `[t0, t1]`.
    w: Vec<f32>,
    /// The increments over the left half of the nodes that are kept.
    rows: Vec<Vec<f32>>,
    spare_rows: Vec<usize>,
    queries: u64,
    noise: Vec<f32>,
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
    /// Which of the tree's rows holds the increments over the left half.
    row: usize,
    /// Whether the query under way has to know what the path moves within both halves.
    needs_w: bool,
    /// Which of the noises drawn for the query under way is this node's, if it is new.
    noise: Option<usize>,
    last_query: u64,
}

/// The noise of a new node.
struct Noise {
    depth: u32,
    key: u64,
    draw: Option<Draw>,
}

/// What a query will need, found before anything is drawn.
struct Plan<'a> {
    number: u64,
    start: f64,
    end: f64,
    new: Vec<Noise>,
    rows: &'a mut Vec<Vec<f32>>,
    spare_rows: &'a mut Vec<usize>,
}

/// The part of a query that concerns one block of elements.
struct Query<'a> {
    start: f64,
    end: f64,
    rows: Vec<&'a mut [f32]>,
    /// The noise of a new node for the elements of a wave, of which there are `stride`, after that of the last.
    noise: &'a [f32],
    stride: usize,
    /// Where these elements begin in the wave.
    first: usize,
    out: &'a mut [f32],
}

impl BrownianTree {
    /// The paths of `elements` values from time `t0` to `t1`, all determined by `seed`.
    ///
    /// # Errors
    /// [`Error::Value`] unless -1e6 <= `t0` <= `t1` <= 1e6 and there is memory for `elements` values.
    pub fn new(seed: u64, elements: usize, t0: f64, t1: f64) -> Result<Self> {
        Self::with_normals(Normals::TorchCpu, seed, elements, t0, t1)
    }

    /// The same tree over other normal values.
    ///
    /// # Errors
    /// Those of [`BrownianTree::new`], and [`Error::Value`] for more elements than `normals` can draw.
    pub fn with_normals(normals: Normals, seed: u64, elements: usize, t0: f64, t1: f64) -> Result<Self> {
        if !(-MAX_TIME <= t0 && t0 <= t1 && t1 <= MAX_TIME) {
            return Err(Error::Value {
                op: "brownian tree",
                what: "range of times",
                expected: "ordered and within [-1e6, 1e6]".to_owned(),
                got: format!("[{t0}, {t1}]"),
            });
        }
        normals.check("brownian tree", elements)?;
        let seeds = SeedSequence::with_pool_size(&[seed as u32, (seed >> 32) as u32], POOL_SIZE);
        let mut w = Vec::new();
        extend(&mut w, elements, elements)?;
        let [w_seed] = seeds.generate_state();
        normals.draw(w_seed.into(), elements).fill(&mut w);
        let deviation = (t1 - t0).sqrt() as f32;
        w.iter_mut().for_each(|w| *w *= deviation);
        let root = Node { start: round(t0), end: round(t1), depth: 0, key: 0, halves: None };
        Ok(BrownianTree {
            normals,
            seeds,
            root,
            w,
            rows: Vec::new(),
            spare_rows: Vec::new(),
            queries: 0,
            noise: Vec::new(),
        })
    }

    /// Writes W(`tb`) - W(`ta`), which has variance |`tb` - `ta`|, to `out`. Zero for an interval that lies
    /// outside of `[t0, t1]` or is shorter than the rounding of times.
    ///
    /// # Errors
    /// [`Error::Value`] if a time is not finite, or if there is no memory for what the query draws;
    /// [`Error::Shape`] if `out` does not hold one value per element.
    pub fn increment(&mut self, ta: f64, tb: f64, out: &mut [f32]) -> Result<()> {
        if out.len() != self.w.len() {
            return Err(wrong_length("brownian tree", self.w.len(), out.len()));
        }
        let (start, end) = self.resolve(ta, tb)?;
        out.fill(0.0);
        if start < end {
            self.add_increment(start, end, out)?;
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

    fn add_increment(&mut self, start: f64, end: f64, out: &mut [f32]) -> Result<()> {
        self.queries += 1;
        let mut plan = Plan {
            number: self.queries,
            start,
            end,
            new: Vec::new(),
            rows: &mut self.rows,
            spare_rows: &mut self.spare_rows,
        };
        self.root.plan(&mut plan);
        let mut new = plan.new;
        if let Err(error) = self.reserve(new.len()) {
            self.root.prune(&mut self.spare_rows, |halves| halves.noise.is_none());
            return Err(error);
        }
        for wave in parts(self.w.len(), WAVE) {
            self.draw(&mut new, wave.len());
            let (root, noise, stride) = (&self.root, &self.noise, wave.len());
            let mut blocks: Vec<(&[f32], Query)> = self.w[wave.clone()]
                .chunks(BLOCK)
                .zip(out[wave.clone()].chunks_mut(BLOCK))
                .enumerate()
                .map(|(block, (w, out))| {
                    (w, Query { start, end, rows: Vec::new(), noise, stride, first: block * BLOCK, out })
                })
                .collect();
            for row in &mut self.rows {
                for ((_, query), row) in blocks.iter_mut().zip(row[wave.clone()].chunks_mut(BLOCK)) {
                    query.rows.push(row);
                }
            }
            let min_len = unless_worth_sharing(new.len() * wave.len());
            blocks.into_par_iter().with_min_len(min_len).for_each(|(w, mut query)| {
                let mut buffer = [0.0; BLOCK];
                let buffer = &mut buffer[..w.len()];
                buffer.copy_from_slice(w);
                root.add_increment(buffer, &mut query);
            });
        }
        let last = self.queries;
        self.root.prune(&mut self.spare_rows, |halves| halves.last_query == last);
        Ok(())
    }

    /// Makes room for all rows, and for the noise of `new` nodes.
    fn reserve(&mut self, new: usize) -> Result<()> {
        let elements = self.w.len();
        self.rows.iter_mut().try_for_each(|row| extend(row, elements, elements))?;
        let wave = parts(elements, WAVE).map(|wave| wave.len()).max().unwrap_or(0);
        extend(&mut self.noise, new * wave, elements)
    }

    /// Draws the next `len` elements' noise for each of the new nodes.
    fn draw(&mut self, new: &mut [Noise], len: usize) {
        let (normals, seeds, elements) = (self.normals, &self.seeds, self.w.len());
        new.par_iter_mut()
            .zip(self.noise.par_chunks_mut(len.max(1)))
            .with_min_len(unless_worth_sharing(len * 8))
            .for_each(|(noise, out)| noise.fill(normals, seeds, elements, out));
    }
}

/// The length below which rayon does not divide work of so many values.
fn unless_worth_sharing(values: usize) -> usize {
    if values < WORTH_SHARING { usize::MAX } else { 1 }
}

/// Makes `values` at least `len` long, on behalf of a tree of `elements`.
fn extend(values: &mut Vec<f32>, len: usize, elements: usize) -> Result<()> {
    let len = len.max(values.len());
    values.try_reserve_exact(len - values.len()).map_err(|_| Error::Value {
        op: "brownian tree",
        what: "elements",
        expected: "few enough for their paths to fit into memory".to_owned(),
        got: elements.to_string(),
    })?;
    values.resize(len, 0.0);
    Ok(())
}

impl Noise {
    /// The node's next values.
    fn fill(&mut self, normals: Normals, seeds: &SeedSequence, elements: usize, out: &mut [f32]) {
        let draw = self.draw.get_or_insert_with(|| {
            let (low, high) = (self.key as u32, (self.key >> 32) as u32);
            let seeds = match high {
                0 => seeds.child(&[low, self.depth]),
                _ => seeds.child(&[low, high, self.depth]),
            };
            let [w_seed] = seeds.generate_state();
            normals.draw(w_seed.into(), elements)
        });
        draw.fill(out);
    }
}

impl Node {
    /// Splits what the query cuts. Returns whether the query has to know what the path moves within this node.
    fn plan(&mut self, plan: &mut Plan) -> bool {
        if plan.start <= self.start && self.end <= plan.end {
            return true;
        }
        let halves =
            self.halves.get_or_insert_with(|| plan.split(self.start, self.end, self.depth, self.key));
        halves.last_query = plan.number;
        if plan.start < halves.left.end {
            halves.left.plan(plan);
        }
        let right_needs_w = halves.right.start < plan.end && halves.right.plan(plan);
        halves.needs_w = halves.noise.is_some() || right_needs_w;
        halves.needs_w
    }

    /// Whether the query has only to add what the path moves within this node.
    fn is_within(&self, query: &Query) -> bool {
        query.start <= self.start && self.end <= query.end
    }

    /// Adds what the path moves within both this node and the query; `w` is what it moves within this node, if that
    /// is needed.
    fn add_increment(&self, w: &mut [f32], query: &mut Query) {
        let halves = match &self.halves {
            Some(halves) if !self.is_within(query) => halves,
            _ => return add(query.out, w),
        };
        halves.draw(w, query);
        let goes_right = halves.right.start < query.end;
        if query.start < halves.left.end {
            let left_w = &*query.rows[halves.row];
            if halves.left.is_within(query) {
                add(query.out, left_w);
            } else if goes_right {
                let mut buffer = [0.0; BLOCK];
                let buffer = &mut buffer[..w.len()];
                buffer.copy_from_slice(left_w);
                halves.left.add_increment(buffer, query);
            } else {
                w.copy_from_slice(left_w);
                halves.left.add_increment(w, query);
            }
        }
        if goes_right {
            if halves.needs_w {
                subtract(w, query.rows[halves.row]);
            }
            halves.right.add_increment(w, query);
        }
    }

    /// Drops what is not to be kept.
    fn prune(&mut self, spare_rows: &mut Vec<usize>, keep: impl Fn(&Halves) -> bool + Copy) {
        let Some(mut halves) = self.halves.take() else { return };
        halves.left.prune(spare_rows, keep);
        halves.right.prune(spare_rows, keep);
        if keep(&halves) {
            halves.noise = None;
            self.halves = Some(halves);
        } else {
            spare_rows.push(halves.row);
        }
    }
}

fn add(out: &mut [f32], w: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (out, w) in out.iter_mut().zip(w) {
                *out += w;
            }
        },
    );
}

fn subtract(w: &mut [f32], left_w: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (w, left) in w.iter_mut().zip(left_w) {
                *w -= left;
            }
        },
    );
}

impl Plan<'_> {
    fn split(&mut self, start: f64, end: f64, depth: u32, key: u64) -> Box<Halves> {
        let row = self.spare_rows.pop().unwrap_or_else(|| {
            self.rows.push(Vec::new());
            self.rows.len() - 1
        });
        self.new.push(Noise { depth, key, draw: None });
        let midway = round(0.5 * (start + end));
        let half = |start, end, key| Node { start, end, depth: depth + 1, key, halves: None };
        Box::new(Halves {
            left: half(start, midway, 2 * key),
            right: half(midway, end, 2 * key + 1),
            row,
            needs_w: true,
            noise: Some(self.new.len() - 1),
            last_query: self.number,
        })
    }
}

impl Halves {
    /// Makes the left half's increments, if they are new, from the Brownian bridge over both halves.
    fn draw(&self, w: &[f32], query: &mut Query) {
        let Some(noise) = self.noise else { return };
        let per_time = 1.0 / (self.right.end - self.left.start);
        let (left, right) = (self.left.end - self.left.start, self.right.end - self.right.start);
        let deviation = (left * right * per_time).sqrt() as f32;
        // Rounded where torch rounds: the mean is the product of three numbers, from left to right.
        let (left, per_time) = (left as f32, per_time as f32);
        let noise = &query.noise[noise * query.stride + query.first..];
        let left_w = &mut *query.rows[self.row];
        vectorised(
            #[inline(always)]
            || {
                for ((left_w, w), noise) in left_w.iter_mut().zip(w).zip(noise) {
                    *left_w = left * w * per_time + deviation * noise;
                }
            },
        );
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
    /// How a seed gives normal values.
    pub normals: Normals,
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
    /// [`Error::Value`] unless -1e6 <= `sigma_min` <= `sigma_max` <= 1e6 and there is memory for the values.
    pub fn batched(seeds: &[u64], elements: usize, sigma_min: f32, sigma_max: f32) -> Result<Self> {
        Self::with_normals(Normals::TorchCpu, seeds, elements, sigma_min, sigma_max)
    }

    /// The same noise over other normal values. With [`Normals::TorchCuda`] it is k-diffusion's on a GPU
    /// (`cpu=False`), with [`Normals::Counter`] no other system's.
    ///
    /// # Errors
    /// Those of [`BrownianNoise::batched`], and [`Error::Value`] for more elements than `normals` can draw.
    pub fn with_normals(
        normals: Normals,
        seeds: &[u64],
        elements: usize,
        sigma_min: f32,
        sigma_max: f32,
    ) -> Result<Self> {
        let (min, max) = (sigma_min.into(), sigma_max.into());
        let tree = |&seed| BrownianTree::with_normals(normals, seed, elements, min, max);
        let trees = seeds.par_iter().map(tree).collect::<Result<_>>()?;
        let paths = BrownianPaths { normals, seeds: seeds.to_vec(), elements, sigma_min, sigma_max };
        Ok(BrownianNoise { trees, paths })
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
        let deviation = (sigma_next - sigma).abs().sqrt();
        self.trees.par_iter_mut().zip(out.par_chunks_exact_mut(item)).try_for_each(|(tree, out)| {
            tree.increment(ta, tb, out)?;
            out.iter_mut().for_each(|noise| *noise /= deviation);
            Ok(())
        })
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
