//! What runs kernels. All that is unsafe about the CUDA backend is here.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::ops::Activation;
use crate::pool::{Lease, Memory, Pool};
use crate::tensor::DType;

/// How one kernel is launched. What an operation plans is a function of shapes, and of what a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The kernel's name in `kernels/manifest.rs`.
    pub kernel: &'static str,
    /// Which of its instances; the entry point is called `KERNEL_ELEMENT`.
    pub element: DType,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared_memory: u32,
}

impl Plan {
    /// One thread for each of `n` pieces of work, in blocks of 256, without shared memory.
    pub(super) fn one_thread_each(kernel: &'static str, element: DType, n: u32) -> Self {
        const THREADS: u32 = 256;
        let grid = [n.div_ceil(THREADS), 1, 1];
        Plan { kernel, element, grid, block: [THREADS, 1, 1], shared_memory: 0 }
    }
}

/// A tensor of 16-bit elements in device memory, and the boxes of it that kernels for Hopper copy to shared memory. Dimensions
/// are listed from the innermost, whose elements lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boxes {
    /// Where it begins: a multiple of 16.
    pub pointer: u64,
    /// What it holds.
    pub element: DType,
    /// How many elements it has along each dimension, none of them 0.
    pub extents: [u64; 4],
    /// Bytes from one to the next along each dimension but the innermost: multiples of 16.
    pub strides: [u64; 3],
    /// How many elements a box reaches over along each dimension: at most 256; along the innermost 64, which are 128 bytes,
    /// and are swizzled.
    pub lengths: [u32; 4],
    /// From one of these elements that is copied to the next: at most 8; along the innermost 1.
    pub steps: [u32; 4],
}

/// What a driver made of [`Boxes`], to be passed to a kernel by value.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct TensorMap(pub [u64; 16]);

/// An activation as `kernels/common/math.cuh` numbers it.
pub(super) fn activation(activation: Activation) -> u32 {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Silu => 2,
        Activation::Geglu => 3,
    }
}

/// A number as kernels count, with room for the threads past the last.
///
/// # Errors
/// [`Error::Value`] for 2^31 and more.
pub(super) fn count(op: &'static str, what: &'static str, number: usize) -> Result<u32> {
    match i32::try_from(number) {
        Ok(number) => Ok(number as u32),
        Err(_) => Err(Error::Value { op, what, expected: "less than 2^31".into(), got: number.to_string() }),
    }
}

/// A device, or what stands for one: memory, and a stream on which launches and copies follow one another.
///
/// Addresses are the device's own, as the driver has them. Only `copy_from` waits for the stream.
///
/// # Safety
/// `alloc` gives memory that nothing else uses until it is freed. A free takes effect after what was launched before.
pub unsafe trait Launcher: Send + Sync {
    /// Work that was captured, to be replayed.
    type Graph: Send + Sync;

    /// How many multiprocessors the device has, each of which runs a few blocks at a time.
    fn multiprocessors(&self) -> u32;
    /// Whether the kernels for Hopper are there and the device runs them. They take tensor maps, and no other kernel does.
    fn runs_hopper(&self) -> bool;
    /// What a kernel for Hopper takes to copy boxes of a tensor. Only asked for where there are such kernels.
    ///
    /// # Errors
    /// If the driver refuses the description.
    fn tensor_map(&self, boxes: &Boxes) -> Result<TensorMap>;

    /// Whether these bytes are memory of the device: those of one allocation, whoever made it.
    ///
    /// # Errors
    /// What the device reports, here and below.
    fn has(&self, address: u64, bytes: usize) -> Result<bool>;
    /// So many bytes, aligned to at least 256, whose contents nobody may rely on.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn alloc(&self, bytes: usize) -> Result<u64>;
    /// Gives memory back.
    ///
    /// # Safety
    /// It came from `alloc`, and nothing launched later uses it.
    unsafe fn free(&self, pointer: u64);
    /// Copies from the host, which may forget the bytes when this returns.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Safety
    /// The bytes lie within one live allocation.
    unsafe fn copy_to(&self, to: u64, from: &[u8]) -> Result<()>;
    /// Waits for what was launched before, and copies to the host.
    ///
    /// # Errors
    /// Also those of what was launched before.
    ///
    /// # Safety
    /// The bytes lie within one live allocation, and have been written.
    unsafe fn copy_from(&self, from: u64, to: &mut [u8]) -> Result<()>;
    /// Copies within the device.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Safety
    /// Both ranges lie within live allocations and do not overlap.
    unsafe fn copy_within(&self, from: u64, to: u64, bytes: usize) -> Result<()>;
    /// Runs a kernel; `args` are the bytes of its arguments in order, aligned as their types are.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Safety
    /// The arguments are of the types that the kernel takes, and what it reads and writes under them lies within live
    /// allocations.
    unsafe fn launch(&self, plan: &Plan, args: &[&[u8]]) -> Result<()>;

    /// Told that memory of a pool holds something new from here on, of `bytes` bytes: what checks accesses forgets what
    /// was there. Others need not know.
    fn renew(&self, pointer: u64, bytes: usize) {
        let _ = (pointer, bytes);
    }

    /// Has what the calling thread launches in `work`, copies within the device too, written down instead of done. What other
    /// threads do meanwhile is done as ever.
    ///
    /// # Errors
    /// Those of `work`; [`Error::NotCapturable`] in it for what waits, allocates, or copies from the host, and for another
    /// capture or a replay.
    fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<Self::Graph>;
    /// Does it, with the arguments that it was captured with.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Safety
    /// That of every launch and copy in it.
    unsafe fn replay(&self, graph: &Self::Graph) -> Result<()>;
}

/// The bytes of a kernel's arguments, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$(bytemuck::bytes_of(&$value)),*] };
}
pub(super) use args;

/// Runs `plan`, whose grid is not empty.
pub(super) fn launch<L: Launcher>(launcher: &L, plan: &Plan, args: &[&[u8]]) -> Result<()> {
    // SAFETY: the types are those of the manifest, which a test holds to the kernels' own, and the pointers are those of
    // tensors that the operation borrows. That a kernel stays within them for every shape that `check` lets through is
    // what the emulator checks, access by access.
    unsafe { launcher.launch(plan, args) }
}

/// Does again what was captured.
pub(super) fn replay<L: Launcher>(launcher: &L, graph: &L::Graph) -> Result<()> {
    // SAFETY: as above for each launch in it: the inputs lie where they lay when it was captured, says `Tape`, and all else
    // that it uses outlives the graph, says whoever calls `Backend::repeat`.
    unsafe { launcher.replay(graph) }
}

/// The memory of a launcher's device, as a pool takes it.
pub(super) struct DeviceMemory<L>(Arc<L>);

/// A piece of it; the default is none.
pub(super) struct Block<L: Launcher>(Option<(Arc<L>, u64)>);

/// Device memory under a tensor.
pub(super) struct Buffer<L: Launcher> {
    memory: Held<L>,
    bytes: usize,
}

/// Whose it is.
enum Held<L: Launcher> {
    Leased(Lease<DeviceMemory<L>>),
    /// A caller's, who has promised that it is there.
    Foreign {
        launcher: Arc<L>,
        pointer: u64,
    },
}

impl<L> DeviceMemory<L> {
    pub(super) fn new(launcher: Arc<L>) -> Self {
        DeviceMemory(launcher)
    }
}

impl<L> Clone for DeviceMemory<L> {
    fn clone(&self) -> Self {
        DeviceMemory(self.0.clone())
    }
}

impl<L: Launcher> Memory for DeviceMemory<L> {
    type Block = Block<L>;

    fn allocate(&self, bytes: usize) -> Result<Block<L>> {
        let pointer = self.0.alloc(bytes)?;
        Ok(Block(Some((self.0.clone(), pointer))))
    }
}

impl<L: Launcher> Default for Block<L> {
    fn default() -> Self {
        Block(None)
    }
}

impl<L: Launcher> Drop for Block<L> {
    fn drop(&mut self) {
        if let Block(Some((launcher, pointer))) = self {
            // SAFETY: it came from `alloc`, and every launch that used it has borrowed it.
            unsafe { launcher.free(*pointer) }
        }
    }
}

impl<L: Launcher> Buffer<L> {
    /// Memory for so many values.
    pub(super) fn new<T>(pool: &Pool<DeviceMemory<L>>, values: usize) -> Result<Self> {
        let bytes = values.saturating_mul(size_of::<T>());
        let buffer = Buffer { memory: Held::Leased(pool.take(bytes)?), bytes };
        buffer.renew(bytes);
        Ok(buffer)
    }

    /// Memory of a caller's.
    pub(super) fn foreign(launcher: Arc<L>, pointer: u64, bytes: usize) -> Self {
        Buffer { memory: Held::Foreign { launcher, pointer }, bytes }
    }

    /// Where it lies, and on what; nowhere in a rehearsal.
    fn place(&self) -> Option<(&L, u64)> {
        let (launcher, pointer) = match &self.memory {
            Held::Leased(lease) => {
                lease.memory().0.as_ref().map(|(launcher, pointer)| (launcher, *pointer))?
            }
            Held::Foreign { launcher, pointer } => (launcher, *pointer),
        };
        Some((&**launcher, pointer))
    }

    fn renew(&self, bytes: usize) {
        if let (Held::Leased(_), Some((launcher, pointer))) = (&self.memory, self.place()) {
            launcher.renew(pointer, bytes);
        }
    }

    /// Where it lies; 0 in a rehearsal.
    pub(super) fn pointer(&self) -> u64 {
        self.place().map_or(0, |(_, pointer)| pointer)
    }

    /// Copies over all of it; as many values as it holds.
    pub(super) fn write<T: Pod>(&mut self, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert_eq!(bytes.len(), self.bytes, "shapes were compared before");
        match self.place() {
            // SAFETY: it is live, and at least as long as the bytes.
            Some((launcher, pointer)) if !bytes.is_empty() => unsafe { launcher.copy_to(pointer, bytes) },
            _ => Ok(()),
        }
    }

    /// Copies bytes of another to a place in this one.
    pub(super) fn copy_from(&mut self, to: usize, other: &Self, from: usize, bytes: usize) -> Result<()> {
        assert!(to + bytes <= self.bytes && from + bytes <= other.bytes, "shapes were compared before");
        match (self.place(), other.place()) {
            // SAFETY: both are live, hold that many bytes, and are two.
            (Some((launcher, here)), Some((_, there))) if bytes > 0 => unsafe {
                launcher.copy_within(there + from as u64, here + to as u64, bytes)
            },
            _ => Ok(()),
        }
    }

    /// Copies all of it; as many values as it holds.
    pub(super) fn read<T: Pod>(&self, values: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        assert_eq!(bytes.len(), self.bytes, "values were counted before");
        match self.place() {
            // SAFETY: it is live, and at least as long as the bytes; every operation writes all of its output.
            Some((launcher, pointer)) if !bytes.is_empty() => unsafe { launcher.copy_from(pointer, bytes) },
            _ => Ok(()),
        }
    }
}

impl<L: Launcher> Drop for Buffer<L> {
    fn drop(&mut self) {
        self.renew(0);
    }
}
