//! What happens in registers, over any instruction set.
//!
//! Queries lie in the lanes: a row of `W` numbers is one number for each query of a block. So no maximum or sum runs
//! across lanes, and both products are the same loop, over a panel of 4 rows of one operand and rows of the other.
//!
//! Operands come in words of 32 bits, held as f32 whatever is in them: one f32, or two neighbours along the sum in bf16,
//! which one instruction multiplies and adds.
//!
//! Tried and lost (Zen 4): tiles of 5x4, 6x4, 8x3 and 10x2 vectors, none faster than 4x4, which alone divides everything;
//! 64 keys at a time, 2 % slower for bf16. On a Zen 3, whose registers are half as many, 4x3 took twice as long as 4x2.

/// Rows of a panel, and of a tile of a product.
pub(super) const PANEL: usize = 4;

/// An instruction set. A value of the type is proof that the machine has it.
pub(super) trait Kernel: Copy + Send + Sync {
    /// f32 lanes.
    type Vector: Copy;
    /// How many.
    const LANES: usize;
    /// Values of a word.
    const PER_WORD: usize = 1;
    /// The word of ones.
    const ONES: f32 = 1.0;
    /// What an exponent of 1 more is in the numbers that [`Kernel::weights`] takes, and what an exponent of 0 is.
    const UNIT: f32 = 1.0;
    const ORIGIN: f32 = 0.0;
    /// Whether the weight of NaN is NaN.
    const SHOWS_NAN: bool = true;

    /// The proof. Panics if the machine does not have it, which a backend has asked before.
    fn new() -> Self;
    /// Runs `f` compiled for this instruction set; it and what it calls must be `#[inline(always)]`.
    fn run<R>(self, f: impl FnOnce() -> R) -> R;
    fn splat(self, value: f32) -> Self::Vector;
    /// The first [`Kernel::LANES`] numbers.
    fn load(self, from: &[f32]) -> Self::Vector;
    fn store(self, vector: Self::Vector, to: &mut [f32]);
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a` where it is larger, otherwise `b`, which also is what NaN on either side gives.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a b + c`
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `2^n` where `n + 127` is in the lowest bits of `a`.
    fn power_of_two(self, a: Self::Vector) -> Self::Vector;
    /// `c` plus the products of the values of the words `a` and `b`.
    #[inline(always)]
    fn dot(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        self.mul_add(a, b, c)
    }
    /// Words of weights: 2 to the power `first`, followed, where a word holds two, by 2 to the power `second`.
    #[inline(always)]
    fn weights(self, first: Self::Vector, _second: Self::Vector) -> Self::Vector {
        exp2(self, first)
    }
}

/// A row of `W` numbers: `V` vectors.
type Row<K, const V: usize> = [<K as Kernel>::Vector; V];

// No closures from here on: what is passed to a function that knows nothing of the instruction set may be compiled
// without it.

#[inline(always)]
fn load<K: Kernel, const V: usize>(kernel: K, from: &[f32]) -> Row<K, V> {
    let mut row = [kernel.splat(0.0); V];
    for (j, vector) in row.iter_mut().enumerate() {
        *vector = kernel.load(&from[j * K::LANES..]);
    }
    row
}

#[inline(always)]
fn store<K: Kernel, const V: usize>(kernel: K, row: Row<K, V>, to: &mut [f32]) {
    for (j, vector) in row.into_iter().enumerate() {
        kernel.store(vector, &mut to[j * K::LANES..]);
    }
}

#[inline(always)]
fn multiply<K: Kernel, const V: usize>(kernel: K, mut row: Row<K, V>, by: Row<K, V>) -> Row<K, V> {
    for (vector, by) in row.iter_mut().zip(by) {
        *vector = kernel.mul(*vector, by);
    }
    row
}

/// `tile + sum_w panel[w] rows[w]`
#[inline(always)]
fn product<K: Kernel, const V: usize, const W: usize>(
    kernel: K,
    panel: &[[f32; PANEL]],
    rows: &[[f32; W]],
    mut tile: [Row<K, V>; PANEL],
) -> [Row<K, V>; PANEL] {
    for (column, row) in panel.iter().zip(rows) {
        let row: Row<K, V> = load(kernel, row);
        for (sums, &value) in tile.iter_mut().zip(column) {
            let value = kernel.splat(value);
            for (sum, vector) in sums.iter_mut().zip(row) {
                *sum = kernel.dot(value, vector, *sum);
            }
        }
    }
    tile
}

/// `2^t` for `t` up to 0, and 0 below -126.5, within 2 ulp.
#[inline(always)]
fn exp2<K: Kernel>(kernel: K, t: K::Vector) -> K::Vector {
    // Added to a small number, its lowest bits are that number, rounded, plus 127.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    // A minimax fit of 2^x over [-1/2, 1/2], from the highest power.
    const FIT: [f32; 6] =
        [1.327_647_2e-3, 9.675_541e-3, 5.550_713_3e-2, 0.240_221_2, 0.693_146_97, 1.000_000_1];

    let t = kernel.max(kernel.splat(-127.0), t);
    let rounded = kernel.add(t, kernel.splat(ROUND));
    let rest = kernel.sub(t, kernel.sub(rounded, kernel.splat(ROUND)));
    let mut power = kernel.splat(FIT[0]);
    for &coefficient in &FIT[1..] {
        power = kernel.mul_add(power, rest, kernel.splat(coefficient));
    }
    kernel.mul(power, kernel.power_of_two(rounded))
}

/// A block of queries of one head, part of the way through the keys.
pub(super) struct Block<'a, const W: usize> {
    /// Words of the queries, `[depth in words, W]`.
    pub queries: &'a [[f32; W]],
    /// `sum_s 2^(score - largest) v`, `[depth in panels, W]`.
    pub sums: &'a mut [[f32; W]],
    /// The largest score so far.
    pub largest: &'a mut [f32; W],
    /// `sum_s 2^(score - largest)`
    pub total: &'a mut [f32; W],
}

/// A tile of keys and values of one head, in panels.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    /// How many.
    pub count: usize,
    /// `[keys / PANEL, depth in words, PANEL]`
    pub k: &'a [[f32; PANEL]],
    /// `[depth / PANEL, keys in words, PANEL]`
    pub v: &'a [[f32; PANEL]],
}

/// What takes products of queries and keys to exponents of weights: `product scale - offset`.
struct Exponents<K: Kernel, const V: usize> {
    scale: K::Vector,
    minus_offset: Row<K, V>,
}

impl<K: Kernel, const V: usize> Exponents<K, V> {
    /// So that the largest product has a weight of 1. An exponent of 1 more is `unit`, an exponent of 0 is `origin`.
    #[inline(always)]
    fn new(kernel: K, largest: Row<K, V>, scale: f32, unit: f32, origin: f32) -> Self {
        let mut minus_offset = largest;
        for largest in &mut minus_offset {
            *largest = kernel.mul_add(*largest, kernel.splat(-scale * unit), kernel.splat(origin));
        }
        Exponents { scale: kernel.splat(scale * unit), minus_offset }
    }

    #[inline(always)]
    fn of(&self, kernel: K, mut products: Row<K, V>) -> Row<K, V> {
        for (product, minus_offset) in products.iter_mut().zip(self.minus_offset) {
            *product = kernel.mul_add(*product, self.scale, minus_offset);
        }
        products
    }
}

impl<const W: usize> Block<'_, W> {
    /// Adds what a tile of keys contributes. `scale` takes products of queries and keys to scores; `tile` has room for a
    /// row for each key, in whole panels.
    #[inline(always)]
    pub fn attend<K: Kernel, const V: usize>(
        &mut self,
        kernel: K,
        keys: Keys<'_>,
        scale: f32,
        tile: &mut [[f32; W]],
    ) {
        let before: Row<K, V> = load(kernel, self.largest);
        let largest = self.multiply_keys(kernel, keys, before, tile);
        let mut shrink = Exponents::new(kernel, largest, scale, 1.0, 0.0).of(kernel, before);
        for exponent in &mut shrink {
            *exponent = exp2(kernel, *exponent);
        }
        let total = multiply(kernel, load(kernel, self.total), shrink);
        let exponents = Exponents::new(kernel, largest, scale, K::UNIT, K::ORIGIN);
        let total = weigh(kernel, &exponents, keys.count, total, tile);
        store::<K, V>(kernel, largest, self.largest);
        store(kernel, total, self.total);
        self.add_values(kernel, keys, shrink, tile);
    }

    /// Puts the products of queries and keys into `tile`; returns the largest, `largest` included.
    #[inline(always)]
    fn multiply_keys<K: Kernel, const V: usize>(
        &self,
        kernel: K,
        keys: Keys<'_>,
        mut largest: Row<K, V>,
        tile: &mut [[f32; W]],
    ) -> Row<K, V> {
        let mut left = keys.count;
        for (panel, to) in keys.k.chunks_exact(self.queries.len()).zip(tile.chunks_exact_mut(PANEL)) {
            let zero = [[kernel.splat(0.0); V]; PANEL];
            let products = product(kernel, panel, self.queries, zero);
            for (row, to) in products.into_iter().zip(to) {
                store(kernel, row, to);
                // The last panel may have rows that are no keys.
                if left > 0 {
                    for (largest, product) in largest.iter_mut().zip(row) {
                        *largest = kernel.max(*largest, product);
                    }
                    left -= 1;
                }
            }
        }
        largest
    }

    /// Adds the values, weighted by `tile`, to what was summed before times `shrink`.
    #[inline(always)]
    fn add_values<K: Kernel, const V: usize>(
        &mut self,
        kernel: K,
        keys: Keys<'_>,
        shrink: Row<K, V>,
        tile: &[[f32; W]],
    ) {
        let words = keys.count.div_ceil(K::PER_WORD);
        for (panel, sums) in keys.v.chunks_exact(words).zip(self.sums.chunks_exact_mut(PANEL)) {
            let mut before = [[kernel.splat(0.0); V]; PANEL];
            for (row, sums) in before.iter_mut().zip(&*sums) {
                *row = multiply(kernel, load(kernel, sums), shrink);
            }
            let after = product(kernel, panel, &tile[..words], before);
            for (row, sums) in after.into_iter().zip(sums) {
                store(kernel, row, sums);
            }
        }
    }
}

/// Turns the products with `keys` keys into words of weights, in place; returns `total` plus all weights as rounded, so
/// that what the values are multiplied by adds up to 1.
#[inline(always)]
fn weigh<K: Kernel, const V: usize, const W: usize>(
    kernel: K,
    exponents: &Exponents<K, V>,
    keys: usize,
    mut total: Row<K, V>,
    tile: &mut [[f32; W]],
) -> Row<K, V> {
    let ones = kernel.splat(K::ONES);
    for word in 0..keys.div_ceil(K::PER_WORD) {
        let key = word * K::PER_WORD;
        let mut words = exponents.of(kernel, load(kernel, &tile[key]));
        // Of no key, whose weight is 0.
        let mut next = [kernel.splat(f32::NEG_INFINITY); V];
        if K::PER_WORD == 2 && key + 1 < keys {
            next = exponents.of(kernel, load(kernel, &tile[key + 1]));
        }
        for ((word, next), total) in words.iter_mut().zip(next).zip(&mut total) {
            *word = kernel.weights(*word, next);
            *total = kernel.dot(ones, *word, *total);
        }
        store(kernel, words, &mut tile[word]);
    }
    total
}
