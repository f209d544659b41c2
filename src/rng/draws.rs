use super::counter::CounterStream;
use super::philox::PhiloxDraw;
use crate::simd::vectorised;

/// Noise as data: what it takes to make each of its values alone, wherever it is wanted. A device makes them in registers.
#[derive(Debug, Clone, PartialEq)]
pub enum Draw {
    /// Standard normal values.
    Normal(NormalDraw),
    /// What Brownian paths move over an interval.
    Path(PathDraw),
}

impl Draw {
    /// Fills `out` with the values from the first on.
    pub fn fill(&self, out: &mut [f32]) {
        match self {
            Draw::Normal(draw) => draw.fill(0, out),
            Draw::Path(draw) => draw.fill(out),
        }
    }
}

/// Fills `out` with what `draws` make of equal parts of it, one after the other.
pub(crate) fn fill_parts(draws: &[Draw], out: &mut [f32]) {
    let part = (out.len() / draws.len().max(1)).max(1);
    draws.iter().zip(out.chunks_exact_mut(part)).for_each(|(draw, out)| draw.fill(out));
}

/// A draw of standard normal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormalDraw {
    /// The key of Philox4x32-10.
    pub key: [u32; 2],
    /// What of the counter is the same for all values.
    pub counter: [u32; 2],
    /// 0: of a [`CounterStream`], whose draw and item the counter names. Else so many threads of torch on a GPU, each of
    /// which begins with this counter.
    pub threads: u32,
}

impl NormalDraw {
    /// Fills `out` with the values from number `first` on.
    pub(super) fn fill(self, first: usize, out: &mut [f32]) {
        let seed = u64::from(self.key[0]) | u64::from(self.key[1]) << 32;
        match self.threads {
            0 => CounterStream::new(seed).randn(self.counter[1], self.counter[0], first as u64, out),
            threads => {
                let counter = u64::from(self.counter[0]) | u64::from(self.counter[1]) << 32;
                PhiloxDraw::new(self.key, counter, threads as usize, first).fill(out);
            }
        }
    }
}

/// What a Brownian path moves over an interval: a walk down the tree of its bridges, the same for every value, which draws
/// each value's own noise on the way. Begins with `w = deviation z`, `z` being `normals` under `seed`; then follows `steps`;
/// the result is `(sum + w) / divisor`.
#[derive(Debug, Clone, PartialEq)]
pub struct PathDraw {
    /// How a seed, which stands for the low half of the key, gives normal values.
    pub normals: NormalDraw,
    /// The seed of the increment over the whole path.
    pub seed: u32,
    /// Its deviation.
    pub deviation: f32,
    /// What the increment is divided by.
    pub divisor: f32,
    /// The walk.
    pub steps: Vec<PathStep>,
}

/// A bridge between the ends of a node, over which the path moves `w`: its left half moves
/// `l = left w per_time + deviation z`, the right one `w - l`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathStep {
    /// Of `z`.
    pub seed: u32,
    /// What happens with the halves.
    pub action: PathAction,
    /// The length of the left half.
    pub left: f32,
    /// One over the node's length.
    pub per_time: f32,
    /// Of `l`, given `w`.
    pub deviation: f32,
}

/// What a [`PathStep`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PathAction {
    /// Goes on with the left half: `w = l`.
    Left = 0,
    /// Goes on with the right half: `w = w - l`.
    Right = 1,
    /// Adds the right half to the sum and goes on with the left one.
    AddRight = 2,
    /// Adds the left half to the sum and goes on with the right one.
    AddLeft = 3,
    /// Puts the right half aside and goes on with the left one.
    Split = 4,
    /// No bridge: adds `w` to the sum and goes on with what was put aside.
    Other = 5,
}

/// Values that walk down together.
const BLOCK: usize = 1024;

impl PathDraw {
    /// Fills `out` with the values from the first on.
    fn fill(&self, out: &mut [f32]) {
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            self.walk(block * BLOCK, out);
        }
    }

    fn walk(&self, first: usize, sum: &mut [f32]) {
        let mut buffers = [[0.0; BLOCK]; 3];
        let [w, other, left] = buffers.each_mut().map(|buffer| &mut buffer[..sum.len()]);
        let noise = |seed, out: &mut [f32]| NormalDraw { key: [seed, 0], ..self.normals }.fill(first, out);
        noise(self.seed, w);
        w.iter_mut().for_each(|w| *w *= self.deviation);
        sum.fill(0.0);
        for step in &self.steps {
            if step.action != PathAction::Other {
                noise(step.seed, left);
            }
            vectorised(
                #[inline(always)]
                || {
                    for (((w, other), left), sum) in w.iter_mut().zip(&mut *other).zip(&*left).zip(&mut *sum)
                    {
                        step.take(w, other, *left, sum);
                    }
                },
            );
        }
        for (sum, w) in sum.iter_mut().zip(w) {
            *sum = (*sum + *w) / self.divisor;
        }
    }
}

impl PathStep {
    #[inline(always)]
    fn take(&self, w: &mut f32, other: &mut f32, noise: f32, sum: &mut f32) {
        let left = self.left * *w * self.per_time + self.deviation * noise;
        let right = *w - left;
        match self.action {
            PathAction::Left => *w = left,
            PathAction::Right => *w = right,
            PathAction::AddRight => (*sum, *w) = (*sum + right, left),
            PathAction::AddLeft => (*sum, *w) = (*sum + left, right),
            PathAction::Split => (*other, *w) = (right, left),
            PathAction::Other => (*sum, *w) = (*sum + *w, *other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{BrownianNoise, Normals, Philox, Topology};

    #[test]
    fn draws_are_those_of_their_generators() {
        for elements in [1, 257, 1000, 5000] {
            let topology = Topology::new(1, 512).unwrap();
            let (mut generator, mut twin) = (Philox::new(7, topology), Philox::new(7, topology));
            let (mut expected, mut got) = (vec![0.0; elements], vec![0.0; elements]);
            for _ in 0..3 {
                generator.randn(&mut expected).unwrap();
                twin.next_draw(elements).unwrap().fill(0, &mut got);
                assert_eq!(got, expected, "{elements} of torch");
            }
            CounterStream::new(1 << 40).randn(3, 5, 0, &mut expected);
            CounterStream::new(1 << 40).draw(3, 5).fill(0, &mut got);
            assert_eq!(got, expected, "{elements} by address");
        }
    }

    /// The tree adds up an interval from its start, the walk from the root down: other roundings of the same sums.
    #[test]
    fn walks_are_the_increments_of_trees() {
        let sigmas = [14.6, 9.0, 5.5, 2.25, 1.0, 0.5, 0.029_167_5, 0.02];
        for normals in
            [Normals::Counter, Normals::TorchCuda(Topology::UNBOUNDED), Normals::TorchCuda(Topology::T4)]
        {
            let mut noise = BrownianNoise::with_normals(normals, &[1, 2], 1500, 0.029_167_5, 14.6).unwrap();
            for pair in sigmas[..7].windows(2).chain([&[14.6, 0.02][..], &[0.5, 2.25]]) {
                let mut expected = vec![0.0; 3000];
                noise.noise(pair[0], pair[1], &mut expected).unwrap();
                let paths = noise.as_data(pair[0], pair[1]).unwrap().unwrap();
                let paths: Vec<Draw> = paths.into_iter().map(Draw::Path).collect();
                let mut got = vec![0.0; 3000];
                fill_parts(&paths, &mut got);
                for (got, expected) in got.iter().zip(&expected) {
                    assert!(
                        (got - expected).abs() <= 2e-6,
                        "{normals:?} {pair:?}: {got} instead of {expected}"
                    );
                }
            }
        }
        assert!(BrownianNoise::new(1, 10, 0.1, 1.0).unwrap().as_data(1.0, 0.5).unwrap().is_none());
    }
}
