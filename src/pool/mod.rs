//! Memory that is used again: tensors of a network come and go by the hundred in every step, in the same order and of the
//! same sizes, so their memory is taken from a pool and goes back to it when they are dropped.
//!
//! The same sequence of takes and drops gets the same blocks of the same pool. That makes a rehearsal worth something: a
//! pool that only counts ([`Pool::rehearsal`]) tells what a sequence needs, and a pool stocked with just that
//! ([`Pool::stocked`]) goes through the sequence without allocating.

mod host;

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::simd::CACHE_LINE;

pub use host::{HostMemory, PooledTensor};

/// Where blocks come from: a host's memory, or a device's.
pub trait Memory: Clone + Send + Sync {
    /// A piece of memory, freed when it is dropped. The default is none at all.
    type Block: Default + Send + Sync;

    /// A block of `bytes` bytes of any content, aligned to 64.
    ///
    /// # Errors
    /// [`Error::Value`] where there is too little memory.
    fn allocate(&self, bytes: usize) -> Result<Self::Block>;
}

/// A pool of memory. Clones are the same pool.
#[derive(Clone)]
pub struct Pool<M: Memory>(Arc<Shared<M>>);

struct Shared<M: Memory> {
    memory: M,
    /// Whether blocks are counted and have no memory.
    rehearses: bool,
    state: Mutex<State<M::Block>>,
}

struct State<T> {
    /// By size, then by number.
    free: Vec<Block<T>>,
    /// The size of every block there is, by number.
    sizes: Vec<usize>,
    in_use: usize,
    usage: Usage,
}

struct Block<T> {
    bytes: usize,
    number: usize,
    memory: T,
}

/// What a pool takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of all blocks, free ones too.
    pub held: usize,
    /// The most bytes that were in use at a time.
    pub peak: usize,
    /// How many blocks were allocated since the pool was made.
    pub allocations: usize,
}

/// A block on loan from a pool, to which it goes back when this is dropped.
pub struct Lease<M: Memory> {
    pool: Pool<M>,
    block: Block<M::Block>,
}

impl<M: Memory> Pool<M> {
    /// An empty pool.
    pub fn new(memory: M) -> Self {
        Pool::with(memory, false)
    }

    fn with(memory: M, rehearses: bool) -> Self {
        let state = State { free: Vec::new(), sizes: Vec::new(), in_use: 0, usage: Usage::default() };
        Pool(Arc::new(Shared { memory, rehearses, state: Mutex::new(state) }))
    }

    /// An empty pool whose blocks are counted like those of any other but have no memory.
    pub fn rehearsal(&self) -> Self {
        Pool::with(self.0.memory.clone(), true)
    }

    /// Whether its blocks have no memory.
    pub fn rehearses(&self) -> bool {
        self.0.rehearses
    }

    /// A pool with a free block like each of this one's.
    ///
    /// # Errors
    /// Those of [`Memory::allocate`].
    pub fn stocked(&self) -> Result<Self> {
        let stocked = Pool::new(self.0.memory.clone());
        let sizes = self.state().sizes.clone();
        let blocks: Vec<Lease<M>> =
            sizes.into_iter().map(|bytes| stocked.allocate(bytes)).collect::<Result<_>>()?;
        drop(blocks);
        stocked.state().usage.peak = 0;
        Ok(stocked)
    }

    /// Lends the smallest free block of at least `bytes` bytes, or a new one.
    ///
    /// # Errors
    /// Those of [`Memory::allocate`].
    pub fn take(&self, bytes: usize) -> Result<Lease<M>> {
        let mut state = self.state();
        let fit = state.free.partition_point(|block| block.bytes < bytes);
        if fit == state.free.len() {
            drop(state);
            return self.allocate(bytes);
        }
        let block = state.free.remove(fit);
        state.lend(block.bytes);
        Ok(Lease { pool: self.clone(), block })
    }

    /// Lends a new block, of whole cache lines.
    fn allocate(&self, bytes: usize) -> Result<Lease<M>> {
        let bytes =
            bytes.max(1).checked_next_multiple_of(CACHE_LINE).ok_or_else(|| too_little_memory(bytes))?;
        let memory = if self.0.rehearses { M::Block::default() } else { self.0.memory.allocate(bytes)? };
        let mut state = self.state();
        let number = state.sizes.len();
        state.sizes.push(bytes);
        state.usage.held = state.usage.held.saturating_add(bytes);
        state.usage.allocations += 1;
        state.lend(bytes);
        // Room for every block at once, so that giving back never allocates.
        let missing = state.sizes.len() - state.free.len();
        state.free.reserve(missing);
        Ok(Lease { pool: self.clone(), block: Block { bytes, number, memory } })
    }

    /// What it takes.
    pub fn usage(&self) -> Usage {
        self.state().usage
    }

    fn state(&self) -> MutexGuard<'_, State<M::Block>> {
        // A panic elsewhere leaves the state whole: nothing in here panics half-way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Memory + Default> Default for Pool<M> {
    fn default() -> Self {
        Pool::new(M::default())
    }
}

impl<M: Memory> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.usage()).finish()
    }
}

impl<T> State<T> {
    fn lend(&mut self, bytes: usize) {
        self.in_use = self.in_use.saturating_add(bytes);
        self.usage.peak = self.usage.peak.max(self.in_use);
    }
}

impl<M: Memory> Lease<M> {
    /// The memory; none in a rehearsal.
    pub fn memory(&self) -> &M::Block {
        &self.block.memory
    }

    /// The memory; none in a rehearsal. Not for others, who could put a smaller block in its place.
    pub(crate) fn memory_mut(&mut self) -> &mut M::Block {
        &mut self.block.memory
    }
}

impl<M: Memory> Drop for Lease<M> {
    fn drop(&mut self) {
        let Block { bytes, number, .. } = self.block;
        let block = Block { bytes, number, memory: mem::take(&mut self.block.memory) };
        let mut state = self.pool.state();
        state.in_use = state.in_use.saturating_sub(bytes);
        let place = state.free.partition_point(|free| (free.bytes, free.number) < (bytes, number));
        state.free.insert(place, block);
    }
}

fn too_little_memory(bytes: usize) -> Error {
    let (what, expected) = ("memory", format!("enough for {bytes} bytes more"));
    Error::Value { op: "pool", what, expected, got: "too little".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(leases: &[&Lease<HostMemory>]) -> Vec<usize> {
        leases.iter().map(|lease| lease.block.number).collect()
    }

    #[test]
    fn the_smallest_free_block_that_is_large_enough_is_lent() {
        let pool = Pool::new(HostMemory);
        let [small, large, middle] = [64, 640, 320].map(|bytes| pool.take(bytes).unwrap());
        drop((large, small, middle));
        let [a, b, c] = [65, 1, 321].map(|bytes| pool.take(bytes).unwrap());
        assert_eq!(numbers(&[&a, &b, &c]), [2, 0, 1]);
        assert_eq!(pool.usage(), Usage { held: 1024, peak: 1024, allocations: 3 });
        let d = pool.take(0).unwrap();
        assert_eq!((d.block.number, d.block.bytes), (3, 64));
    }

    #[test]
    fn of_equal_blocks_the_oldest_is_lent_in_whatever_order_they_came_back() {
        let pool = Pool::new(HostMemory);
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut blocks = [(); 3].map(|()| Some(pool.take(100).unwrap()));
            assert_eq!(numbers(&blocks.each_ref().map(|block| block.as_ref().unwrap())), [0, 1, 2]);
            order.into_iter().for_each(|at| drop(blocks[at].take()));
        }
        assert_eq!(pool.usage().allocations, 3);
    }

    #[test]
    fn a_rehearsal_counts_what_a_stocked_pool_then_holds() {
        let sequence = |pool: &Pool<HostMemory>| {
            let a = pool.take(1000).unwrap();
            let b = pool.take(10).unwrap();
            drop(a);
            let c = pool.take(500).unwrap();
            let d = pool.take(900).unwrap();
            numbers(&[&b, &c, &d])
        };
        let rehearsal = Pool::new(HostMemory).rehearsal();
        sequence(&rehearsal);
        let counted = rehearsal.usage();
        assert_eq!(counted, Usage { held: 1024 + 64 + 960, peak: 1024 + 64 + 960, allocations: 3 });
        assert!(rehearsal.take(64).unwrap().memory().is_empty());

        let pool = rehearsal.stocked().unwrap();
        assert_eq!(sequence(&pool), sequence(&pool));
        assert_eq!(pool.usage(), counted);
    }

    #[test]
    fn what_no_memory_can_hold_is_refused() {
        for pool in [Pool::new(HostMemory), Pool::new(HostMemory).rehearsal()] {
            assert!(matches!(pool.take(usize::MAX), Err(Error::Value { what: "memory", .. })));
        }
        let most = usize::MAX / 2;
        assert!(matches!(Pool::new(HostMemory).take(most), Err(Error::Value { what: "memory", .. })));
        assert_eq!(Pool::new(HostMemory).usage(), Usage::default());
    }
}
