//! What the driver has handed out.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use emulator::{Device, Launch};

use super::{
    Handle, INVALID_CONTEXT, INVALID_HANDLE, INVALID_VALUE, OUT_OF_MEMORY, Result,
    STREAM_CAPTURE_UNSUPPORTED, illegal,
};

/// What a handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Event,
    Graph,
    GraphExec,
    Pool,
    Module,
    HostMemory,
}

/// What a stream does, and a graph again.
#[derive(Debug, Clone)]
pub enum Work {
    Launch { name: String, launch: Launch, arguments: Vec<Vec<u8>> },
    CopyWithin { from: u64, to: u64, bytes: usize },
}

#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub module: usize,
    /// The most dynamic shared memory that it may be launched with.
    pub shared_memory: u32,
}

#[derive(Default)]
pub struct State {
    pub devices: Vec<Device>,
    /// How often each device's context is held.
    contexts: Vec<usize>,
    objects: HashMap<usize, (Kind, usize)>,
    next: usize,
    pub host: HashMap<usize, Vec<u8>>,
    /// When events that tell the time were recorded.
    pub timers: HashMap<usize, Instant>,
    pub functions: HashMap<usize, Function>,
    /// By graph, and by what was made of one.
    pub graphs: HashMap<usize, Vec<Work>>,
    /// The streams that are captured, and what each was told to do.
    pub captures: HashMap<usize, Vec<Work>>,
    /// Live allocations, their bytes and the device of each.
    memory: HashMap<u64, (usize, usize)>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The state, made when it is first asked for.
pub fn locked() -> impl std::ops::DerefMut<Target = State> {
    struct Guard(MutexGuard<'static, Option<State>>);
    impl std::ops::Deref for Guard {
        type Target = State;
        fn deref(&self) -> &State {
            self.0.as_ref().expect("made when locked")
        }
    }
    impl std::ops::DerefMut for Guard {
        fn deref_mut(&mut self) -> &mut State {
            self.0.as_mut().expect("made when locked")
        }
    }
    let mut guard = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_default();
    Guard(guard)
}

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The device whose context is current on this thread.
pub fn current() -> Option<usize> {
    CURRENT.get()
}

pub fn set_current(device: Option<usize>) {
    CURRENT.set(device);
}

impl State {
    pub fn open(&mut self, devices: usize, capability: u32) {
        while self.devices.len() < devices {
            // The emulator has the limits of some; the others will do with those of the first.
            let known = if [80, 86, 89, 90, 100, 120].contains(&capability) { capability } else { 80 };
            self.devices.push(Device::new(known, self.devices.len() as u64 + 1));
            self.contexts.push(0);
        }
    }

    pub fn retain(&mut self, device: usize) {
        self.contexts[device] += 1;
    }

    /// Lets a context go; with the last, what is left is written down.
    pub fn release(&mut self, device: usize) {
        self.contexts[device] -= 1;
        if self.contexts.iter().any(|&holders| holders > 0) {
            return;
        }
        for (kind, _) in self.objects.values() {
            log(&format!("left behind: {kind:?}"));
        }
        if !self.memory.is_empty() {
            log(&format!("left behind: {} allocations", self.memory.len()));
        }
        log("closed");
    }

    pub fn violation(&self, what: &str) {
        log(&format!("violation: {what}"));
    }

    pub fn current(&self) -> std::result::Result<usize, Result> {
        current().filter(|&device| self.contexts[device] > 0).ok_or(INVALID_CONTEXT)
    }

    pub fn device(&self) -> std::result::Result<&Device, Result> {
        self.current().map(|device| &self.devices[device])
    }

    pub fn make(&mut self, kind: Kind) -> std::result::Result<Handle, Result> {
        let device = self.current()?;
        self.next += 1;
        // Like addresses, and unlike the numbers that stand for default streams.
        let handle = 0x1000 + self.next * 16;
        self.objects.insert(handle, (kind, device));
        Ok(handle as Handle)
    }

    /// Holds a handle to its kind, and to the context that is current.
    pub fn expect(&self, kind: Kind, handle: Handle) -> std::result::Result<(), Result> {
        if self.objects.get(&(handle as usize)) == Some(&(kind, self.current()?)) {
            return Ok(());
        }
        self.violation(&format!("{handle:?} is no {kind:?} of the current context"));
        Err(INVALID_HANDLE)
    }

    pub fn destroy(&mut self, kind: Kind, handle: Handle) -> std::result::Result<(), Result> {
        self.expect(kind, handle)?;
        self.objects.remove(&(handle as usize));
        self.graphs.remove(&(handle as usize));
        self.timers.remove(&(handle as usize));
        Ok(())
    }

    /// For what may not be captured: the stream is one, and is not being captured.
    pub fn on(&self, stream: Handle, call: &str) -> std::result::Result<(), Result> {
        if stream.is_null() {
            self.violation(&format!("{call} on the default stream"));
        }
        self.expect(Kind::Stream, stream)?;
        if self.captures.contains_key(&(stream as usize)) {
            self.violation(&format!("{call} on a stream that is being captured"));
            return Err(STREAM_CAPTURE_UNSUPPORTED);
        }
        Ok(())
    }

    /// For what may be captured.
    pub fn submit(&mut self, stream: Handle, work: Work) -> std::result::Result<(), Result> {
        if let Some(list) = self.captures.get_mut(&(stream as usize)) {
            list.push(work);
            return Ok(());
        }
        self.on(stream, "a launch or a copy")?;
        match &work {
            Work::Launch { name, .. } => tell(&format!("launch {name}")),
            Work::CopyWithin { bytes, .. } => tell(&format!("copy {bytes}")),
        }
        self.perform(&work)
    }

    pub fn perform(&self, work: &Work) -> std::result::Result<(), Result> {
        let device = self.device()?;
        match work {
            Work::CopyWithin { from, to, bytes } => device.copy_within(*from, *to, *bytes),
            Work::Launch { name, launch, arguments } => {
                let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
                device.launch(name, *launch, &arguments)
            }
        }
        .map_err(illegal)
    }

    pub fn function(&mut self, module: Handle, name: &str) -> Handle {
        const MOST_UNASKED: u32 = 48 << 10;
        self.next += 1;
        let handle = 0x1000 + self.next * 16;
        let function =
            Function { name: name.to_owned(), module: module as usize, shared_memory: MOST_UNASKED };
        self.functions.insert(handle, function);
        handle as Handle
    }

    pub fn allocate(&mut self, bytes: usize) -> std::result::Result<u64, Result> {
        const MEMORY: usize = 1 << 30;
        let pointer = if bytes > MEMORY { None } else { self.device()?.alloc(bytes) };
        let pointer = pointer.ok_or(OUT_OF_MEMORY)?;
        self.memory.insert(pointer, (bytes, self.current()?));
        Ok(pointer)
    }

    /// Bytes that are allocated on the current device.
    pub fn allocated(&self) -> std::result::Result<u64, Result> {
        let current = self.current()?;
        let here = self.memory.values().filter(|&&(_, device)| device == current);
        Ok(here.map(|&(bytes, _)| bytes as u64).sum())
    }

    /// Where the allocation that a pointer points into begins, its bytes and its device.
    pub fn allocation_of(&self, pointer: u64) -> Option<(u64, usize, usize)> {
        let holds = |&(&start, &(bytes, _)): &(&u64, &(usize, usize))| {
            (start..start + bytes as u64).contains(&pointer)
        };
        self.memory.iter().find(holds).map(|(&start, &(bytes, device))| (start, bytes, device))
    }

    pub fn free(&mut self, pointer: u64) -> std::result::Result<(), Result> {
        let current = self.current()?;
        if self.memory.get(&pointer).is_none_or(|&(_, device)| device != current) {
            self.violation("what is freed is no allocation of the current context");
            return Err(INVALID_VALUE);
        }
        self.memory.remove(&pointer);
        self.device()?.free(pointer).map_err(|_| INVALID_VALUE)
    }
}

/// Adds a line to the log, if there is one.
fn log(line: &str) {
    append("EMULATED_DRIVER_LOG", line);
}

/// Adds a line to the list of work, if there is one.
pub fn tell(line: &str) {
    append("EMULATED_DRIVER_WORK", line);
}

fn append(variable: &str, line: &str) {
    let Ok(path) = std::env::var(variable) else { return };
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}
