//! The CUDA backend's launcher on an emulated GPU.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use emulator::Device;
use noisefork::cuda::launch::{Boxes, TensorMap};
use noisefork::cuda::{Compute, Cuda, Launcher, Plan};
use noisefork::error::{Error, Result};

/// An emulated device.
pub struct Emulated {
    device: Device,
    multiprocessors: u32,
    hopper: bool,
    /// What threads are capturing.
    captures: Mutex<HashMap<ThreadId, Graph>>,
    /// How often each kernel ran.
    pub launches: Mutex<BTreeMap<&'static str, usize>>,
    /// How many graphs were captured.
    pub graphs: AtomicUsize,
}

/// Work in the order in which it was captured.
#[derive(Default)]
pub struct Graph(Vec<Work>);

enum Work {
    Launch(Plan, Vec<Vec<u8>>),
    CopyWithin { from: u64, to: u64, bytes: usize },
    Renew { pointer: u64, bytes: usize },
}

impl Emulated {
    /// A device like an A100, of compute capability 8.0, whose schedules follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with(80, 108, seed)
    }

    /// A device of Hopper's, compute capability 9.0. An H100 has 132 multiprocessors; with few, plans take large tiles.
    #[allow(dead_code, reason = "not every test looks at one")]
    pub fn hopper(multiprocessors: u32, seed: u64) -> Self {
        Self::with(90, multiprocessors, seed)
    }

    fn with(capability: u32, multiprocessors: u32, seed: u64) -> Self {
        Emulated {
            device: Device::new(capability, seed),
            multiprocessors,
            hopper: capability == 90,
            captures: Mutex::default(),
            launches: Mutex::default(),
            graphs: AtomicUsize::default(),
        }
    }

    /// The CUDA backend on a device like an A100.
    pub fn cuda<E: Compute>(seed: u64) -> Cuda<Self, E> {
        Cuda::new(Arc::new(Self::new(seed)))
    }

    /// Does it, or writes it down.
    fn submit(&self, work: Work) -> Result<()> {
        if let Some(graph) = self.captures.lock().unwrap().get_mut(&thread::current().id()) {
            graph.0.push(work);
            return Ok(());
        }
        self.perform(&work)
    }

    /// Refuses what cannot be written down.
    fn now(&self, op: &'static str) -> Result<()> {
        match self.captures.lock().unwrap().contains_key(&thread::current().id()) {
            true => Err(Error::NotCapturable { op }),
            false => Ok(()),
        }
    }

    fn perform(&self, work: &Work) -> Result<()> {
        match work {
            Work::Launch(plan, args) => {
                *self.launches.lock().unwrap().entry(plan.kernel).or_default() += 1;
                let name = format!("{}_{}", plan.kernel, plan.element);
                let Plan { grid, block, shared_memory, .. } = *plan;
                let launch = emulator::Launch { grid, block, shared_memory };
                let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                self.device.launch(&name, launch, &args).map_err(refused(plan.kernel))
            }
            Work::CopyWithin { from, to, bytes } => {
                self.device.copy_within(*from, *to, *bytes).map_err(refused("copy_within"))
            }
            Work::Renew { pointer, bytes } => self.device.renew(*pointer, *bytes).map_err(refused("renew")),
        }
    }
}

fn refused(op: &'static str) -> impl FnOnce(String) -> Error {
    move |got| Error::Driver { op, got }
}

// SAFETY: the device never hands out an address twice, and work follows in order.
unsafe impl Launcher for Emulated {
    type Graph = Graph;

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }
    fn runs_hopper(&self) -> bool {
        self.hopper
    }
    fn tensor_map(&self, boxes: &Boxes) -> Result<TensorMap> {
        let Boxes { pointer, extents, strides, lengths, steps, .. } = boxes;
        let map = emulator::tensor_map(*pointer, extents, strides, lengths, steps, true);
        map.map(TensorMap).map_err(refused("tensor_map"))
    }

    fn has(&self, address: u64, bytes: usize) -> Result<bool> {
        self.device.has(address, bytes).map_err(refused("has"))
    }
    fn alloc(&self, bytes: usize) -> Result<u64> {
        self.now("alloc")?;
        let device = "the emulated device".to_owned();
        self.device.alloc(bytes).ok_or(Error::OutOfMemory { device, bytes })
    }
    unsafe fn free(&self, pointer: u64) {
        self.device.free(pointer).expect("an allocation");
    }
    unsafe fn copy_to(&self, to: u64, from: &[u8]) -> Result<()> {
        self.now("copy_to")?;
        self.device.copy_to(to, from).map_err(refused("copy_to"))
    }
    unsafe fn copy_from(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.now("copy_from")?;
        self.device.copy_from(from, to).map_err(refused("copy_from"))
    }
    unsafe fn copy_within(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.submit(Work::CopyWithin { from, to, bytes })
    }
    unsafe fn launch(&self, plan: &Plan, args: &[&[u8]]) -> Result<()> {
        self.submit(Work::Launch(*plan, args.iter().map(|bytes| bytes.to_vec()).collect()))
    }
    fn renew(&self, pointer: u64, bytes: usize) {
        self.submit(Work::Renew { pointer, bytes }).expect("an allocation of at least as many bytes");
    }

    fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.now("capture")?;
        let thread = thread::current().id();
        self.captures.lock().unwrap().insert(thread, Graph::default());
        let done = work();
        let graph = self.captures.lock().unwrap().remove(&thread).expect("put there before");
        done?;
        self.graphs.fetch_add(1, Ordering::Relaxed);
        Ok(graph)
    }
    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        self.now("replay")?;
        graph.0.iter().try_for_each(|work| self.perform(work))
    }
}
