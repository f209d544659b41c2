use std::sync::{Arc, Mutex};

use cudarc::driver::{DriverError, result, sys};

use super::failure::failure;
use super::locked;
use super::stream::Stream;
use crate::error::Result;

/// Launches and copies that were captured, with the memory that was freed on the way: a replay uses it again.
#[derive(Debug)]
pub struct Graph {
    /// The driver lets no two threads use one at once.
    raw: Mutex<sys::CUgraphExec>,
    held: Vec<u64>,
    stream: Arc<Stream>,
}

// SAFETY: a graph belongs to no thread, and a lock keeps its users apart.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Graph {
    /// What can be launched on `stream` of what was captured, which this takes, with what was freed meanwhile.
    pub fn new(stream: Arc<Stream>, captured: sys::CUgraph, held: Vec<u64>) -> Result<Self> {
        // Whatever fails from here on, dropping this gives the memory back.
        let mut graph = Graph { raw: Mutex::new(std::ptr::null_mut()), held, stream };
        let raw = graph.instantiate(captured).map_err(|error| failure("capture", error))?;
        graph.raw = Mutex::new(raw);
        Ok(graph)
    }

    /// The stream's context is current.
    fn instantiate(&self, captured: sys::CUgraph) -> Result<sys::CUgraphExec, DriverError> {
        // SAFETY: the graph is ours; what can be launched does not need it any more.
        unsafe {
            let flags = sys::CUgraphInstantiate_flags(0);
            let raw = result::graph::instantiate(captured, flags);
            let destroyed = result::graph::destroy(captured);
            let raw = raw?;
            // So that the first replay is as quick as the others.
            match destroyed.and_then(|()| result::graph::upload(raw, self.stream.raw())) {
                Ok(()) => Ok(raw),
                Err(error) => {
                    self.stream.quietly(|| result::graph::exec_destroy(raw));
                    Err(error)
                }
            }
        }
    }

    /// Whether it is launched on `stream`.
    pub fn is_of(&self, stream: &Arc<Stream>) -> bool {
        Arc::ptr_eq(&self.stream, stream)
    }

    /// Queues it all on its stream, whose context is current.
    pub fn launch(&self) -> Result<(), DriverError> {
        let raw = locked(&self.raw);
        // SAFETY: both are alive, and nobody else uses the graph.
        unsafe { result::graph::launch(*raw, self.stream.raw()) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let raw = *locked(&self.raw);
        if !raw.is_null() {
            // SAFETY: it is ours; the driver frees it once the replays that are under way have ended.
            self.stream.quietly(|| unsafe { result::graph::exec_destroy(raw) });
        }
        for &pointer in &self.held {
            // SAFETY: whoever freed it said that only this graph uses it.
            unsafe { self.stream.free(pointer) };
        }
    }
}
