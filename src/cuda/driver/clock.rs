//! What a device takes, by its own clock.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::{DriverError, result, sys};

use super::stream::Stream;

/// A point in a stream, whose time the device notes when it gets there.
pub struct Event {
    raw: sys::CUevent,
    stream: Arc<Stream>,
}

impl Event {
    /// After all that has been launched on a stream, whose context is current.
    pub fn record(stream: &Arc<Stream>) -> Result<Self, DriverError> {
        let raw = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?;
        let event = Event { raw, stream: stream.clone() };
        // SAFETY: both are alive.
        unsafe { result::event::record(raw, stream.raw()) }.map(|()| event)
    }

    /// Waits for it; returns how long after another it came.
    pub fn since(&self, start: &Event) -> Result<Duration, DriverError> {
        // SAFETY: both are alive, were recorded, and, on one stream, have happened once the later one has.
        let milliseconds = unsafe {
            result::event::synchronize(self.raw)?;
            result::event::elapsed(start.raw, self.raw)?
        };
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it is ours; the driver keeps it for as long as the stream has to get there.
        self.stream.quietly(|| unsafe { result::event::destroy(self.raw) });
    }
}
