use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use cudarc::driver::{DriverError, result, sys};

use super::failure::failure;
use super::graph::Graph;
use super::locked;
use super::stream::Stream;
use crate::error::{Error, Result};

/// What threads are capturing. Each captures on a stream of its own, so nothing of others gets into its graph, and nothing
/// of others waits.
#[derive(Debug, Default)]
pub struct Captures(Mutex<HashMap<ThreadId, Capture>>);

#[derive(Debug)]
struct Capture {
    raw: sys::CUstream,
    ended: bool,
    /// What was freed since it began: a replay uses it again.
    held: Vec<u64>,
    /// The launcher's.
    stream: Arc<Stream>,
}

// SAFETY: a stream belongs to no thread; see `Driver`.
unsafe impl Send for Capture {}

impl Captures {
    /// Captures what `work` launches on [`Captures::stream`].
    pub fn capture(&self, stream: &Arc<Stream>, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let begun = Capture::begin(stream).map_err(|error| failure("capture", error))?;
        locked(&self.0).insert(thread::current().id(), begun);
        // Removed even if `work` panics.
        struct Removed<'a>(&'a Captures);
        impl Removed<'_> {
            fn take(&self) -> Option<Capture> {
                locked(&self.0.0).remove(&thread::current().id())
            }
        }
        impl Drop for Removed<'_> {
            fn drop(&mut self) {
                drop(self.take());
            }
        }
        let removed = Removed(self);
        work()?;
        let nothing = || Error::Driver { op: "capture", got: "nothing is being captured".into() };
        removed.take().ok_or_else(nothing)?.graph()
    }

    /// Where this thread captures, if it does.
    pub fn stream(&self) -> Option<sys::CUstream> {
        locked(&self.0).get(&thread::current().id()).map(|capture| capture.raw)
    }

    /// Keeps memory for the graph that this thread captures; says whether it does.
    pub fn hold(&self, pointer: u64) -> bool {
        let mut captures = locked(&self.0);
        let capture = captures.get_mut(&thread::current().id());
        capture.map(|capture| capture.held.push(pointer)).is_some()
    }
}

impl Capture {
    fn begin(stream: &Arc<Stream>) -> Result<Self, DriverError> {
        stream.bind()?;
        let raw = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        let mut capture = Capture { raw, ended: true, held: Vec::new(), stream: stream.clone() };
        // What other threads do is none of its business.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is ours.
        unsafe { result::stream::begin_capture(raw, mode) }?;
        capture.ended = false;
        Ok(capture)
    }

    fn end(&mut self) -> Result<sys::CUgraph, DriverError> {
        self.ended = true;
        // SAFETY: the stream is ours.
        unsafe { result::stream::end_capture(self.raw) }
    }

    fn graph(mut self) -> Result<Graph> {
        let captured = self.stream.bind().and_then(|()| self.end());
        let captured = captured.map_err(|error| failure("capture", error))?;
        Graph::new(self.stream.clone(), captured, mem::take(&mut self.held))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let stream = self.stream.clone();
        if !self.ended {
            stream.quietly(|| match self.end() {
                // SAFETY: it is ours, and nothing was made of it.
                Ok(graph) if !graph.is_null() => unsafe { result::graph::destroy(graph) },
                // What invalidated it was returned by the work that did.
                _ => Ok(()),
            });
        }
        // SAFETY: whoever freed them said that only what was captured uses them.
        self.held.iter().for_each(|&pointer| unsafe { stream.free(pointer) });
        // SAFETY: it is ours, and nothing runs on it: all was captured.
        stream.quietly(|| unsafe { result::stream::destroy(self.raw) });
    }
}
