//! What runs kernels. All that is unsafe about the CUDA backend is here.

use std::sync::Arc;

use bytemuck::Pod;

use crate::error::{Error, Result};
use crate::tensor::DType;

/// How one kernel is launched: what an operation's plan comes to. A function of shapes alone.
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

/// A device, or what stands for one: memory, and a stream on which launches and copies follow one another.
///
/// Addresses are the device's own, as the driver has them. Only `copy_from` waits for the stream.
///
/// # Safety
/// `alloc` gives memory that nothing else uses until it is freed. A free takes effect after what was launched before.
pub unsafe trait Launcher: Send + Sync {
    /// Work that was captured, to be replayed.
    type Graph: Send + Sync;

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
    /// What the device reports, here and below.
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

    /// From here on, launches and copies within the device are written down instead of done.
    ///
    /// # Errors
    /// As above.
    fn begin_capture(&self) -> Result<()>;
    /// What was written down since.
    ///
    /// # Errors
    /// As above; also if nothing is being captured.
    fn end_capture(&self) -> Result<Self::Graph>;
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

/// Runs `plan`, unless its grid is empty.
pub(super) fn launch<L: Launcher>(launcher: &L, plan: &Plan, args: &[&[u8]]) -> Result<()> {
    if plan.grid.contains(&0) {
        return Ok(());
    }
    // SAFETY: the types are those of the manifest, which a test holds to the kernels' own, and the pointers are those of
    // tensors that the operation borrows. That a kernel stays within them for every shape that `check` lets through is
    // what the emulator checks, access by access.
    unsafe { launcher.launch(plan, args) }
}

/// Device memory that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer<L: Launcher> {
    launcher: Arc<L>,
    pointer: u64,
    bytes: usize,
}

impl<L: Launcher> Buffer<L> {
    /// Memory for so many values.
    pub(super) fn new<T>(launcher: &Arc<L>, values: usize) -> Result<Self> {
        let bytes = values.checked_mul(size_of::<T>()).ok_or_else(|| Error::Value {
            op: "cuda",
            what: "memory",
            expected: "few enough values to count their bytes".into(),
            got: values.to_string(),
        })?;
        // A driver refuses to allocate nothing.
        let pointer = launcher.alloc(bytes.max(1))?;
        Ok(Buffer { launcher: launcher.clone(), pointer, bytes })
    }

    pub(super) fn pointer(&self) -> u64 {
        self.pointer
    }

    /// Copies over all of it; as many values as it holds.
    pub(super) fn write<T: Pod>(&mut self, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert_eq!(bytes.len(), self.bytes, "shapes were compared before");
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: it is live, and as long as the bytes are.
        unsafe { self.launcher.copy_to(self.pointer, bytes) }
    }

    /// Copies all of it; as many values as it holds.
    pub(super) fn read<T: Pod>(&self, values: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        assert_eq!(bytes.len(), self.bytes, "values were counted before");
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: it is live, and as long as the bytes are; every operation writes all of its output.
        unsafe { self.launcher.copy_from(self.pointer, bytes) }
    }
}

impl<L: Launcher> Drop for Buffer<L> {
    fn drop(&mut self) {
        // SAFETY: it came from `alloc`, and every launch that uses it has borrowed it.
        unsafe { self.launcher.free(self.pointer) }
    }
}
