use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

/// A stream and the context that it belongs to. What is kept on a device keeps it alive.
#[derive(Debug)]
pub struct Stream {
    raw: sys::CUstream,
    context: Arc<CudaContext>,
    /// `None` for a stream of others.
    owned: Option<Arc<CudaStream>>,
}

// SAFETY: a stream belongs to no thread; see `Driver`.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    pub fn of(stream: Arc<CudaStream>) -> Self {
        Stream { raw: stream.cu_stream(), context: stream.context().clone(), owned: Some(stream) }
    }

    pub fn foreign(context: Arc<CudaContext>, raw: sys::CUstream) -> Self {
        Stream { raw, context, owned: None }
    }

    pub fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// As cudarc has it, if it made the stream.
    pub fn of_cudarc(&self) -> Option<&CudaStream> {
        self.owned.as_deref()
    }

    /// Null, or one of the two numbers that stand for default streams.
    pub fn is_default(&self) -> bool {
        const LEGACY: usize = 1;
        const PER_THREAD: usize = 2;
        matches!(self.raw as usize, 0 | LEGACY | PER_THREAD)
    }

    /// Makes the context current; returns what was recorded when it could not be returned, in a drop.
    pub fn bind(&self) -> Result<(), DriverError> {
        self.context.bind_to_thread()
    }

    /// Gives memory back once all is done that was launched before. An error is returned by the next [`Stream::bind`].
    ///
    /// # Safety
    /// It came from a [`Pool`](super::memory::Pool), and nothing launched later uses it.
    pub unsafe fn free(&self, pointer: u64) {
        // SAFETY: the caller's.
        self.quietly(|| unsafe { result::free_async(pointer, self.raw) });
    }

    /// Does what a drop has to do: an error is returned by the next [`Stream::bind`].
    pub fn quietly(&self, f: impl FnOnce() -> Result<(), DriverError>) {
        // SAFETY: the context lives as long as `self`.
        let bound = unsafe { result::ctx::set_current(self.context.cu_ctx()) };
        self.context.record_err(bound.and_then(|()| f()));
    }
}
