/// Numpy's `SeedSequence` (1.17 and later): one seed made into many streams that do not overlap.
///
/// The words of entropy and then those of the spawn key are hashed into a pool (after O'Neill 2015,
/// "Developing a seed_seq alternative"), from which any number of words can be generated. A child continues
/// from its parent's pool, so it costs a few hashes and not a whole pool.
#[derive(Debug, Clone)]
pub struct SeedSequence {
    pool: Vec<u32>,
    hash_const: u32,
    children: u32,
}

impl SeedSequence {
    /// The pool size that numpy uses unless told otherwise, in words; also the smallest.
    pub const POOL_SIZE: usize = 4;

    /// `numpy.random.SeedSequence(entropy)`. A 64-bit seed's words are its low and its high half.
    pub fn new(entropy: &[u32]) -> Self {
        Self::with_pool_size(entropy, Self::POOL_SIZE)
    }

    /// `numpy.random.SeedSequence(entropy, pool_size=pool_size)`, where a `pool_size` below 4 counts as 4.
    pub(super) fn with_pool_size(entropy: &[u32], pool_size: usize) -> Self {
        let pool = vec![0; pool_size.max(Self::POOL_SIZE)];
        let mut sequence = SeedSequence { pool, hash_const: 0x43b0_d7e5, children: 0 };
        let (filling, rest) = entropy.split_at(entropy.len().min(sequence.pool.len()));
        sequence.fill_pool(filling);
        sequence.absorb(rest);
        sequence
    }

    /// The sequence whose spawn key is this one's followed by `key`.
    pub fn child(&self, key: &[u32]) -> Self {
        let mut child = SeedSequence { children: 0, ..self.clone() };
        child.absorb(key);
        child
    }

    /// The next `n` children: `spawn(n)`.
    pub fn spawn(&mut self, n: u32) -> Vec<Self> {
        let first = self.children;
        self.children = first.saturating_add(n);
        (first..self.children).map(|index| self.child(&[index])).collect()
    }

    /// `N` words: `generate_state(N)`. The same at every call.
    pub fn generate_state<const N: usize>(&self) -> [u32; N] {
        let mut hash_const = 0x8b51_f9ddu32;
        std::array::from_fn(|i| {
            let word = self.pool[i % self.pool.len()] ^ hash_const;
            hash_const = hash_const.wrapping_mul(0x58f3_8ded);
            fold(word.wrapping_mul(hash_const))
        })
    }

    fn fill_pool(&mut self, entropy: &[u32]) {
        for i in 0..self.pool.len() {
            self.pool[i] = self.hash(entropy.get(i).copied().unwrap_or(0));
        }
        for source in 0..self.pool.len() {
            for target in (0..self.pool.len()).filter(|&target| target != source) {
                let hashed = self.hash(self.pool[source]);
                self.pool[target] = mix(self.pool[target], hashed);
            }
        }
    }

    fn absorb(&mut self, words: &[u32]) {
        for &word in words {
            for target in 0..self.pool.len() {
                let hashed = self.hash(word);
                self.pool[target] = mix(self.pool[target], hashed);
            }
        }
    }

    fn hash(&mut self, word: u32) -> u32 {
        let word = word ^ self.hash_const;
        self.hash_const = self.hash_const.wrapping_mul(0x931e_8875);
        fold(word.wrapping_mul(self.hash_const))
    }
}

fn mix(x: u32, y: u32) -> u32 {
    fold(x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715)))
}

fn fold(word: u32) -> u32 {
    word ^ (word >> 16)
}
