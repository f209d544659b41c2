use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::draws::{PathAction, PathDraw, PathStep};
use super::mt19937::parts;
use super::normals::Draw;
use super::{Normals, SeedSequence};
use crate::error::{Error, Result};
use crate::simd::{PastCaches, prefetch, vectorised, want_large_pages};

/// Words of entropy per node, as torchsde's `BrownianTree` sets it.
const POOL_SIZE: usize = 24;
/// Times are rounded to multiples of one over this.
const TICKS: f64 = 1e6;
/// The largest time; with the rounding, it bounds the depth of the tree at 42.
const MAX_TIME: f64 = 1e6;
const MAX_DEPTH: usize = 42;
/// Elements that go down the tree together, so that what a path needs at once stays in the second nearest cache.
/// Half and twice the size are no faster.
const BLOCK: usize = 2048;
/// What the last block may be longer by: see [`parts`].
const TAIL: usize = 16;
/// Values to draw below which waking other threads costs more than it saves.
const WORTH_SHARING: usize = 1 << 15;

/// One Brownian path per element, fixed by a seed alone: `torchsde.BrownianTree` (0.2.6) with its default
/// tolerance of 1e-6 and pool size of 24.
///
/// The increment over an interval does not depend on what was asked before. Times are rounded to multiples of
/// 1e-6, and the path stands still outside of `[t0, t1]`.
///
/// Between queries it keeps the values that a query which lies below the last one and shares an end with it needs
/// again: some 20 times `elements` values for an interval of a typical length.
///
/// # Cost
/// A step to a new time draws a value per element at each of the 17 or so levels of the tree below the steps seen
/// before: there is no less to do. The draws, 0.7 ns each, are most of it. Half of them are used at once, in cache;
/// the other half is what the next step down needs, and is kept: some 18 rows of 4 bytes an element are read or written
/// in a step. With copies past the caches, the next block's rows fetched while this one's are drawn, and large pages,
/// a sixth of a step is spent waiting for memory; without them it is a third.
#[derive(Debug, Clone)]
pub struct BrownianTree {
    normals: Normals,
    seeds: SeedSequence,
    root: Node,
    /// The increment over the whole of `[t0, t1]`.
    w: Vec<f32>,
    /// Its deviation.
    deviation: f32,
    kept: Kept,
    /// How many rows of `kept` are used, or were, and which of them are free.
    rows: usize,
    spare_rows: Vec<usize>,
    queries: u64,
}

/// What is kept between queries: rows of increments, each over a node's left half. All rows of a block of elements lie
/// one after another, and so do the blocks.
#[derive(Debug, Clone, Default)]
struct Kept {
    values: Vec<f32>,
    rows: usize,
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
    /// Which of the kept rows holds the increments over the left half, if one does.
    row: Option<usize>,
    /// Which of the draws for the query under way is this node's, if its left half is to be drawn.
    draw: Option<usize>,
    /// Whether the query under way has to know what the path moves within either half.
    needs_left_w: bool,
    /// The same for the right half, which is the whole without the left one.
    needs_right_w: bool,
    last_query: u64,
}

/// What a query will need, found before anything is drawn.
struct Plan<'a> {
    number: u64,
    start: f64,
    end: f64,
    seeds: &'a SeedSequence,
    /// The seeds of the nodes to be drawn.
    draws: Vec<u64>,
    /// The kept rows to be read.
    reads: Vec<usize>,
    rows: &'a mut usize,
    spare_rows: &'a mut Vec<usize>,
}

/// A run of blocks, which one thread takes through the tree.
struct Span<'a> {
    /// The elements before it.
    first: usize,
    kept: &'a mut [&'a mut [f32]],
    out: &'a mut [f32],
}

/// The part of a query that concerns one block of elements.
struct Query<'a> {
    start: f64,
    end: f64,
    draws: &'a mut [Draw],
    kept: &'a mut [f32],
    out: &'a mut [f32],
    past_caches: &'a PastCaches,
    /// The kept rows that the next block is going to read.
    ahead: &'a mut dyn Iterator<Item = &'a [f32]>,
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
            deviation,
            kept: Kept::default(),
            rows: 0,
            spare_rows: Vec::new(),
            queries: 0,
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
        self.increment_over(ta, tb, 1.0, rayon::current_num_threads(), out)
    }

    /// Writes (W(`tb`) - W(`ta`)) / `divisor` to `out`, on at most so many threads.
    fn increment_over(
        &mut self,
        ta: f64,
        tb: f64,
        divisor: f32,
        threads: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let (start, end) = self.resolve(ta, tb)?;
        let divisor = if ta > tb { -divisor } else { divisor };
        if start < end {
            return self.query(start, end, divisor, threads, out);
        }
        out.fill(0.0 / divisor);
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

    /// The increment over an interval, divided by `divisor`, as data; `None` if the normal values have no addresses.
    fn as_data(&self, ta: f64, tb: f64, divisor: f32) -> Result<Option<PathDraw>> {
        let (start, end) = self.resolve(ta, tb)?;
        let Some(normals) = self.normals.as_data(self.w.len()) else { return Ok(None) };
        let [seed] = self.seeds.generate_state();
        let divisor = if ta > tb { -divisor } else { divisor };
        let mut walk = Walk { start, end, seeds: &self.seeds, steps: Vec::new() };
        walk.down(&self.root, Way::Whole);
        Ok(Some(PathDraw { normals, seed, deviation: self.deviation, divisor, steps: walk.steps }))
    }

    fn query(&mut self, start: f64, end: f64, divisor: f32, threads: usize, out: &mut [f32]) -> Result<()> {
        self.queries += 1;
        let mut plan = Plan {
            number: self.queries,
            start,
            end,
            seeds: &self.seeds,
            draws: Vec::new(),
            reads: Vec::new(),
            rows: &mut self.rows,
            spare_rows: &mut self.spare_rows,
        };
        let needs_w = self.root.plan(&mut plan);
        let (seeds, reads) = (plan.draws, plan.reads);
        if let Err(error) = self.kept.reserve(self.rows, self.w.len()) {
            self.root.prune(&mut self.spare_rows, |halves| halves.draw.is_none());
            return Err(error);
        }
        let (normals, root, w) = (self.normals, &self.root, &self.w[..]);
        let shares = if seeds.len() * w.len() < WORTH_SHARING { 1 } else { threads };
        let mut kept = self.kept.blocks(w.len());
        spans(shares, normals.skip_cost(), &mut kept, out).into_par_iter().for_each(|span| {
            let mut draws: Vec<Draw> =
                seeds.iter().map(|&seed| normals.draw_from(seed, w.len(), span.first)).collect();
            let mut scratch = vec![0.0; (MAX_DEPTH + 2) * (BLOCK + TAIL)];
            let past_caches = PastCaches::new();
            let mut blocks = parts(span.out.len(), BLOCK).zip(span.kept).peekable();
            while let Some((part, kept)) = blocks.next() {
                let (block_w, scratch) = scratch.split_at_mut(part.len());
                if needs_w {
                    block_w.copy_from_slice(&w[span.first..][part.clone()]);
                }
                let out = &mut span.out[part];
                out.fill(0.0);
                let next = blocks.peek().map(|(part, kept)| (part.len(), &kept[..]));
                let ahead =
                    &mut reads.iter().filter_map(|row| next.map(|(len, kept)| &kept[row * len..][..len]));
                let mut query =
                    Query { start, end, draws: &mut draws, kept, out, past_caches: &past_caches, ahead };
                root.add_increment(block_w, &mut query, scratch);
                divide(out, divisor);
            }
        });
        let last = self.queries;
        self.root.prune(&mut self.spare_rows, |halves| halves.last_query == last);
        Ok(())
    }
}

impl Kept {
    /// Rows that are made room for at a time.
    const MORE: usize = 8;

    /// Makes room for so many rows of `elements` values.
    fn reserve(&mut self, rows: usize, elements: usize) -> Result<()> {
        if rows <= self.rows {
            return Ok(());
        }
        let mut larger = Kept { values: Vec::new(), rows: rows.next_multiple_of(Self::MORE) };
        extend(&mut larger.values, larger.rows.saturating_mul(elements), elements)?;
        for (larger, block) in larger.blocks(elements).into_iter().zip(self.blocks(elements)) {
            larger[..block.len()].copy_from_slice(block);
        }
        *self = larger;
        Ok(())
    }

    /// The rows of each block.
    fn blocks(&mut self, elements: usize) -> Vec<&mut [f32]> {
        let (rows, mut rest) = (self.rows, &mut self.values[..]);
        let block = |part: Range<usize>| rest.split_off_mut(..rows * part.len()).unwrap_or_default();
        parts(elements, BLOCK).map(block).collect()
    }
}

/// Cuts the blocks into a run for each of `shares` threads. A thread has to pass over what comes before its run, at
/// `skip_cost` of what drawing that costs, so that the first run is the longest.
///
/// Threads that share the nodes of a wave of elements instead pass over nothing, but what one draws another has to
/// fetch, and twice per wave they wait for each other.
fn spans<'a>(
    shares: usize,
    skip_cost: f64,
    mut kept: &'a mut [&'a mut [f32]],
    mut out: &'a mut [f32],
) -> Vec<Span<'a>> {
    let (blocks, elements) = (kept.len(), out.len());
    let weights: Vec<f64> = (0..shares as i32).map(|share| (1.0 - skip_cost).powi(share)).collect();
    let total: f64 = weights.iter().sum();
    let mut spans = Vec::new();
    let (mut sum, mut done) = (0.0, 0);
    for weight in weights {
        sum += weight;
        let until = (blocks as f64 * sum / total).round() as usize;
        let last = elements - out.len();
        let here = kept.split_off_mut(..until - done).unwrap_or_default();
        let len = if until == blocks { out.len() } else { here.len() * BLOCK };
        spans.push(Span { first: last, kept: here, out: out.split_off_mut(..len).unwrap_or_default() });
        done = until;
    }
    spans.retain(|span| !span.out.is_empty());
    spans
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
    want_large_pages(values.spare_capacity_mut());
    values.resize(len, 0.0);
    Ok(())
}

impl Node {
    /// Splits what the query cuts. Returns whether the query has to know what the path moves within this node.
    fn plan(&mut self, plan: &mut Plan) -> bool {
        if plan.start <= self.start && self.end <= plan.end {
            return true;
        }
        let halves =
            self.halves.get_or_insert_with(|| Halves::new(self.start, self.end, self.depth, self.key));
        let midway = halves.left.end;
        halves.last_query = plan.number;
        halves.needs_right_w = midway < plan.end && halves.right.plan(plan);
        halves.needs_left_w = (plan.start < midway && halves.left.plan(plan)) || halves.needs_right_w;
        if halves.needs_left_w && halves.row.is_none() {
            halves.draw = Some(plan.draws.len());
            plan.draws.push(seed_of(plan.seeds, self.depth, self.key).into());
            // A path that goes right adds the left half, and does so again where the next query ends here.
            let ends_right = midway <= plan.end && plan.end < self.end;
            if midway <= plan.start || ends_right {
                halves.row = Some(plan.row());
            }
        } else if halves.needs_left_w {
            plan.reads.extend(halves.row);
        }
        halves.needs_right_w || halves.draw.is_some()
    }

    /// Adds what the path moves within both this node and the query; `w` is what it moves within this node, if that
    /// is needed, and is used up.
    fn add_increment(&self, w: &mut [f32], query: &mut Query, scratch: &mut [f32]) {
        let within = query.start <= self.start && self.end <= query.end;
        let halves = match &self.halves {
            Some(halves) if !within => halves,
            _ => return add(query.out, w),
        };
        let (left_w, rest) = scratch.split_at_mut(w.len());
        halves.find_left_w(w, query, left_w);
        if halves.needs_right_w {
            subtract(w, left_w);
        }
        if query.start < halves.left.end {
            halves.left.add_increment(left_w, query, rest);
        }
        if halves.right.start < query.end {
            halves.right.add_increment(w, query, scratch);
        }
    }

    /// Drops the rows that are not to be kept, and the nodes that lead to none.
    fn prune(&mut self, spare_rows: &mut Vec<usize>, keep: impl Fn(&Halves) -> bool + Copy) {
        let Some(halves) = &mut self.halves else { return };
        halves.left.prune(spare_rows, keep);
        halves.right.prune(spare_rows, keep);
        if !keep(halves) {
            spare_rows.extend(halves.row.take());
        }
        halves.draw = None;
        if halves.row.is_none() && halves.left.halves.is_none() && halves.right.halves.is_none() {
            self.halves = None;
        }
    }
}

fn divide(values: &mut [f32], divisor: f32) {
    vectorised(
        #[inline(always)]
        || values.iter_mut().for_each(|value| *value /= divisor),
    );
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

/// The seed of a node's noise.
fn seed_of(seeds: &SeedSequence, depth: u32, key: u64) -> u32 {
    let (low, high) = (key as u32, (key >> 32) as u32);
    let seeds = match high {
        0 => seeds.child(&[low, depth]),
        _ => seeds.child(&[low, high, depth]),
    };
    let [w_seed] = seeds.generate_state();
    w_seed
}

/// Writes the steps that lead from the root to both ends of an interval.
struct Walk<'a> {
    start: f64,
    end: f64,
    seeds: &'a SeedSequence,
    steps: Vec<PathStep>,
}

/// Where in the walk a node lies.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Above the node whose halves both have an end of the interval.
    Whole,
    /// On the way to the start: all that lies right of it belongs to the interval.
    ToStart,
    /// On the way to the end: all that lies left of it does.
    ToEnd,
}

impl Walk<'_> {
    /// Goes down from `node` until a node belongs to the interval as a whole.
    fn down(&mut self, node: &Node, way: Way) {
        if self.start <= node.start && node.end <= self.end {
            return;
        }
        let Halves { left, right, .. } = *Halves::new(node.start, node.end, node.depth, node.key);
        let (goes_left, goes_right) = (self.start < left.end, left.end < self.end);
        let action = match (goes_left, goes_right, way) {
            (true, true, Way::Whole) => PathAction::Split,
            (true, true, Way::ToStart) => PathAction::AddRight,
            (true, true, Way::ToEnd) => PathAction::AddLeft,
            (true, false, _) => PathAction::Left,
            (false, _, _) => PathAction::Right,
        };
        let bridge = Bridge::over(&left, &right);
        let seed = seed_of(self.seeds, node.depth, node.key);
        self.steps.push(PathStep {
            seed,
            action,
            left: bridge.left,
            per_time: bridge.per_time,
            deviation: bridge.deviation,
        });
        match action {
            PathAction::Split => {
                self.down(&left, Way::ToStart);
                self.steps.push(PathStep {
                    seed: 0,
                    action: PathAction::Other,
                    left: 0.0,
                    per_time: 0.0,
                    deviation: 0.0,
                });
                self.down(&right, Way::ToEnd);
            }
            PathAction::AddRight | PathAction::Left => self.down(&left, way),
            _ => self.down(&right, way),
        }
    }
}

impl Plan<'_> {
    /// A row to keep values in.
    fn row(&mut self) -> usize {
        self.spare_rows.pop().unwrap_or_else(|| {
            *self.rows += 1;
            *self.rows - 1
        })
    }
}

/// What noise becomes the left half's increment by.
struct Bridge {
    left: f32,
    per_time: f32,
    deviation: f32,
}

impl Bridge {
    fn over(left: &Node, right: &Node) -> Self {
        let per_time = 1.0 / (right.end - left.start);
        let (left, right) = (left.end - left.start, right.end - right.start);
        let deviation = (left * right * per_time).sqrt() as f32;
        Bridge { left: left as f32, per_time: per_time as f32, deviation }
    }
}

impl Halves {
    fn new(start: f64, end: f64, depth: u32, key: u64) -> Box<Self> {
        let midway = round(0.5 * (start + end));
        let half = |start, end, key| Node { start, end, depth: depth + 1, key, halves: None };
        Box::new(Halves {
            left: half(start, midway, 2 * key),
            right: half(midway, end, 2 * key + 1),
            row: None,
            draw: None,
            needs_left_w: false,
            needs_right_w: false,
            last_query: 0,
        })
    }

    /// Writes the left half's increments to `left_w`, if they are needed.
    fn find_left_w(&self, w: &[f32], query: &mut Query, left_w: &mut [f32]) {
        if !self.needs_left_w {
            return;
        }
        let row = self.row.map(|row| &mut query.kept[row * w.len()..][..w.len()]);
        match (self.draw, row) {
            (None, Some(row)) => left_w.copy_from_slice(row),
            (None, None) => unreachable!("what is needed is drawn or kept"),
            (Some(draw), row) => {
                // While this is computed, memory has time for what comes next.
                query.ahead.next().into_iter().for_each(prefetch);
                query.draws[draw].fill(left_w);
                self.bridge(w, left_w);
                if let Some(row) = row {
                    query.past_caches.copy(row, left_w);
                }
            }
        }
    }

    /// Turns noise into the left half's increments: a Brownian bridge over both halves.
    fn bridge(&self, w: &[f32], noise: &mut [f32]) {
        // Rounded where torch rounds: the mean is the product of three numbers, from left to right.
        let Bridge { left, per_time, deviation } = Bridge::over(&self.left, &self.right);
        vectorised(
            #[inline(always)]
            || {
                for (noise, w) in noise.iter_mut().zip(w) {
                    *noise = left * w * per_time + deviation * *noise;
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
        let (ta, tb, deviation) = first.scaled_interval(sigma, sigma_next)?;
        let item = first.w.len().max(1);
        let threads = rayon::current_num_threads().div_ceil(self.trees.len());
        self.trees
            .par_iter_mut()
            .zip(out.par_chunks_exact_mut(item))
            .try_for_each(|(tree, out)| tree.increment_over(ta, tb, deviation, threads, out))
    }
}

impl BrownianNoise {
    /// What [`BrownianNoise::noise`] writes as data, a part for each item; `None` if the normal values have no addresses.
    ///
    /// # Errors
    /// Those of [`BrownianNoise::noise`].
    pub fn as_data(&self, sigma: f32, sigma_next: f32) -> Result<Option<Vec<PathDraw>>> {
        let each = |tree: &BrownianTree| {
            let (ta, tb, deviation) = tree.scaled_interval(sigma, sigma_next)?;
            tree.as_data(ta, tb, deviation)
        };
        self.trees.iter().map(each).collect()
    }
}

impl BrownianTree {
    /// An interval that is long enough, and the deviation of what the path moves over it.
    fn scaled_interval(&self, sigma: f32, sigma_next: f32) -> Result<(f64, f64, f32)> {
        let (ta, tb) = (f64::from(sigma), f64::from(sigma_next));
        let (start, end) = self.resolve(ta, tb)?;
        if start < end {
            return Ok((ta, tb, (sigma_next - sigma).abs().sqrt()));
        }
        Err(Error::Value {
            op: "brownian noise",
            what: "interval",
            expected: format!("1e-6 long within [{}, {}]", self.root.start, self.root.end),
            got: format!("[{sigma}, {sigma_next}]"),
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
