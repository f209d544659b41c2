//! The functions of NVIDIA's driver that noisefork calls, in front of emulated GPUs: what launches through the driver is
//! tested without one, down to the C interface.
//!
//! It does at once what a GPU does later, so it shows no missing synchronisation. It does see to the order of calls, the
//! current context, who owns what, and that nothing uses the default stream. What breaks a rule is written to the file
//! `EMULATED_DRIVER_LOG`, with what is still there when the last context goes.
//!
//! | variable | default | |
//! |---|---|---|
//! | `EMULATED_DRIVER_VERSION` | 13000 | what `cuDriverGetVersion` says |
//! | `EMULATED_DRIVER_DEVICES` | 2 | how many devices there are |
//! | `EMULATED_DRIVER_CAPABILITY` | 80 | their compute capability |
//! | `EMULATED_DRIVER_FAIL` | | `cuLaunchKernel=700`: the function fails so |
//! | `EMULATED_DRIVER_WORK` | | a file for what streams were given, in order: `copy BYTES`, `launch KERNEL`, `graph`, and `timer` for an event that tells the time |
#![allow(non_snake_case, reason = "the driver's names")]
#![allow(clippy::missing_safety_doc, reason = "the driver's documentation has them")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "as the driver does, it takes callers at their word")]

mod state;

use std::env;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::time::Instant;

use state::{Kind, State, Work, current, locked, set_current, tell};

type Result = c_int;
const SUCCESS: Result = 0;
const INVALID_VALUE: Result = 1;
const OUT_OF_MEMORY: Result = 2;
const NO_DEVICE: Result = 100;
const INVALID_DEVICE: Result = 101;
const INVALID_IMAGE: Result = 200;
const INVALID_CONTEXT: Result = 201;
const INVALID_HANDLE: Result = 400;
const NOT_FOUND: Result = 500;
const ILLEGAL_ADDRESS: Result = 700;
const STREAM_CAPTURE_UNSUPPORTED: Result = 900;

type Handle = *mut c_void;

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Of a block, in bytes.
fn most_shared_memory() -> c_int {
    if number("EMULATED_DRIVER_CAPABILITY", 80) == 90 { 227 << 10 } else { 163 << 10 }
}

/// The error that a function is told to fail with.
fn failure(function: &str) -> Option<Result> {
    let told = env::var("EMULATED_DRIVER_FAIL").ok()?;
    let (name, code) = told.split_once('=')?;
    if name == function { code.parse().ok() } else { None }
}

/// Functions: each fails if it is told to, else runs its body on the state.
macro_rules! driver {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:expr)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> Result {
            if let Some(code) = failure(stringify!($name)) {
                return code;
            }
            let body: fn(&mut State, $($type),*) -> std::result::Result<(), Result> = $body;
            body(&mut locked(), $($argument),*).map_or_else(|code| code, |()| SUCCESS)
        }
    )*};
}

/// Writes to where a caller wants it.
fn put<T>(to: *mut T, value: T) {
    unsafe { to.write(value) }
}

driver! {
    fn cuDriverGetVersion(version: *mut c_int) |_, version| {
        put(version, number("EMULATED_DRIVER_VERSION", 13000) as c_int);
        Ok(())
    }
    fn cuInit(flags: c_uint) |state, _| {
        let devices = number("EMULATED_DRIVER_DEVICES", 2);
        state.open(devices, number("EMULATED_DRIVER_CAPABILITY", 80) as u32);
        if devices == 0 { Err(NO_DEVICE) } else { Ok(()) }
    }
    fn cuDeviceGetCount(count: *mut c_int) |state, count| {
        put(count, state.devices.len() as c_int);
        Ok(())
    }
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) |state, device, ordinal| {
        put(device, ordinal);
        if (ordinal as usize) < state.devices.len() { Ok(()) } else { Err(INVALID_DEVICE) }
    }
    fn cuDeviceGetName(name: *mut c_char, size: c_int, device: c_int) |_, name, size, device| {
        let text = format!("Emulated GPU {device}\0");
        assert!(text.len() <= size as usize);
        unsafe { from_raw_parts_mut(name.cast(), text.len()) }.copy_from_slice(text.as_bytes());
        Ok(())
    }
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) |_, bytes, _| {
        put(bytes, 1 << 30);
        Ok(())
    }
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) |_, value, attribute, _| {
        let capability = number("EMULATED_DRIVER_CAPABILITY", 80) as c_int;
        put(value, match attribute {
            16 => 4,                  // multiprocessors
            38 => 1 << 20,            // the cache
            39 => 2048,               // threads of one
            75 => capability / 10,
            76 => capability % 10,
            97 => most_shared_memory(),
            115 => 1,                 // memory pools
            _ => return Err(INVALID_VALUE),
        });
        Ok(())
    }
    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) |state, context, device| {
        state.retain(device as usize);
        put(context, (device as usize + 1) as Handle);
        Ok(())
    }
    fn cuDevicePrimaryCtxRelease_v2(device: c_int) |state, device| {
        state.release(device as usize);
        Ok(())
    }
    fn cuCtxGetCurrent(context: *mut Handle) |_, context| {
        put(context, current().map_or(0, |device| device + 1) as Handle);
        Ok(())
    }
    fn cuCtxSetCurrent(context: Handle) |_, context| {
        set_current((context as usize).checked_sub(1));
        Ok(())
    }
    fn cuCtxGetDevice(device: *mut c_int) |state, device| {
        put(device, state.current()? as c_int);
        Ok(())
    }
    fn cuCtxSynchronize() |state| state.current().map(drop)

    fn cuStreamCreate(stream: *mut Handle, flags: c_uint) |state, stream, flags| {
        const NON_BLOCKING: c_uint = 1;
        if flags != NON_BLOCKING {
            state.violation("a stream that waits for the default stream");
        }
        put(stream, state.make(Kind::Stream)?);
        Ok(())
    }
    fn cuStreamDestroy_v2(stream: Handle) |state, stream| {
        state.on(stream, "cuStreamDestroy")?;
        state.destroy(Kind::Stream, stream)
    }
    fn cuStreamSynchronize(stream: Handle) |state, stream| {
        state.on(stream, "cuStreamSynchronize")
    }
    fn cuStreamBeginCapture_v2(stream: Handle, mode: c_uint) |state, stream, _| {
        state.on(stream, "cuStreamBeginCapture")?;
        state.captures.insert(stream as usize, Vec::new());
        Ok(())
    }
    fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) |state, stream, graph| {
        let work = state.captures.remove(&(stream as usize)).ok_or(INVALID_VALUE)?;
        let handle = state.make(Kind::Graph)?;
        state.graphs.insert(handle as usize, work);
        put(graph, handle);
        Ok(())
    }
    fn cuGraphInstantiateWithFlags(exec: *mut Handle, graph: Handle, flags: u64) |state, exec, graph, _| {
        let work = state.graphs.get(&(graph as usize)).ok_or(INVALID_HANDLE)?.clone();
        let handle = state.make(Kind::GraphExec)?;
        state.graphs.insert(handle as usize, work);
        put(exec, handle);
        Ok(())
    }
    fn cuGraphUpload(exec: Handle, stream: Handle) |state, exec, stream| {
        state.expect(Kind::GraphExec, exec)?;
        state.on(stream, "cuGraphUpload")
    }
    fn cuGraphLaunch(exec: Handle, stream: Handle) |state, exec, stream| {
        state.expect(Kind::GraphExec, exec)?;
        state.on(stream, "cuGraphLaunch")?;
        tell("graph");
        let work = state.graphs.get(&(exec as usize)).ok_or(INVALID_HANDLE)?.clone();
        work.iter().try_for_each(|work| state.perform(work))
    }
    fn cuGraphDestroy(graph: Handle) |state, graph| state.destroy(Kind::Graph, graph)
    fn cuGraphExecDestroy(exec: Handle) |state, exec| state.destroy(Kind::GraphExec, exec)

    fn cuEventCreate(event: *mut Handle, flags: c_uint) |state, event, flags| {
        const DISABLE_TIMING: c_uint = 2;
        let handle = state.make(Kind::Event)?;
        if flags & DISABLE_TIMING == 0 {
            state.timers.insert(handle as usize, Instant::now());
        }
        put(event, handle);
        Ok(())
    }
    fn cuEventRecord(event: Handle, stream: Handle) |state, event, stream| {
        state.expect(Kind::Event, event)?;
        state.on(stream, "cuEventRecord")?;
        if let Some(timer) = state.timers.get_mut(&(event as usize)) {
            *timer = Instant::now();
            tell("timer");
        }
        Ok(())
    }
    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: Handle, end: Handle) |state, milliseconds, start, end| {
        state.expect(Kind::Event, start)?;
        state.expect(Kind::Event, end)?;
        let at = |event: Handle| state.timers.get(&(event as usize)).copied().ok_or(INVALID_HANDLE);
        put(milliseconds, at(end)?.saturating_duration_since(at(start)?).as_secs_f32() * 1e3);
        Ok(())
    }
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) |state, stream, event, _| {
        state.expect(Kind::Event, event)?;
        state.on(stream, "cuStreamWaitEvent")
    }
    fn cuEventSynchronize(event: Handle) |state, event| state.expect(Kind::Event, event)
    fn cuEventDestroy_v2(event: Handle) |state, event| state.destroy(Kind::Event, event)

    fn cuMemPoolCreate(pool: *mut Handle, properties: *const [c_int; 4]) |state, pool, properties| {
        const PINNED_ON_A_DEVICE: [c_int; 3] = [1, 0, 1];
        let [kind, handles, at, device] = unsafe { *properties };
        if [kind, handles, at] != PINNED_ON_A_DEVICE || device as usize != state.current()? {
            return Err(INVALID_VALUE);
        }
        put(pool, state.make(Kind::Pool)?);
        Ok(())
    }
    fn cuMemPoolSetAttribute(pool: Handle, attribute: c_uint, value: *mut u64) |state, pool, attribute, value| {
        const RELEASE_THRESHOLD: c_uint = 4;
        state.expect(Kind::Pool, pool)?;
        if attribute == RELEASE_THRESHOLD && unsafe { *value } == u64::MAX { Ok(()) } else { Err(INVALID_VALUE) }
    }
    fn cuMemPoolGetAttribute(pool: Handle, attribute: c_uint, value: *mut u64) |state, pool, attribute, value| {
        const USED: c_uint = 7;
        state.expect(Kind::Pool, pool)?;
        if attribute != USED {
            return Err(INVALID_VALUE);
        }
        put(value, state.allocated()?);
        Ok(())
    }
    fn cuMemPoolDestroy(pool: Handle) |state, pool| state.destroy(Kind::Pool, pool)
    fn cuMemAllocFromPoolAsync(
        pointer: *mut u64,
        bytes: usize,
        pool: Handle,
        stream: Handle,
    ) |state, pointer, bytes, pool, stream| {
        state.expect(Kind::Pool, pool)?;
        state.on(stream, "cuMemAllocFromPoolAsync")?;
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        put(pointer, state.allocate(bytes)?);
        Ok(())
    }
    fn cuMemAllocAsync(pointer: *mut u64, bytes: usize, stream: Handle) |state, pointer, bytes, stream| {
        state.on(stream, "cuMemAllocAsync")?;
        put(pointer, state.allocate(bytes)?);
        Ok(())
    }
    fn cuMemFreeAsync(pointer: u64, stream: Handle) |state, pointer, stream| {
        state.on(stream, "cuMemFreeAsync")?;
        state.free(pointer)
    }
    fn cuMemHostAlloc(pointer: *mut Handle, bytes: usize, flags: c_uint) |state, pointer, bytes, _| {
        let handle = state.make(Kind::HostMemory)?;
        state.host.insert(handle as usize, vec![0u8; bytes]);
        put(pointer, state.host.get_mut(&(handle as usize)).ok_or(INVALID_VALUE)?.as_mut_ptr().cast());
        Ok(())
    }
    fn cuMemFreeHost(pointer: Handle) |state, pointer| {
        let of = |(handle, bytes): (&usize, &Vec<u8>)| (bytes.as_ptr() == pointer.cast()).then_some(*handle);
        let handle = state.host.iter().find_map(of).ok_or(INVALID_VALUE)?;
        state.host.remove(&handle);
        state.destroy(Kind::HostMemory, handle as Handle)
    }
    fn cuPointerGetAttribute(value: *mut c_void, attribute: c_uint, pointer: u64) |state, value, attribute, pointer| {
        const DEVICE_ORDINAL: c_uint = 9;
        const RANGE_START: c_uint = 11;
        const RANGE_SIZE: c_uint = 12;
        let (start, bytes, device) = state.allocation_of(pointer).ok_or(INVALID_VALUE)?;
        match attribute {
            DEVICE_ORDINAL => put(value.cast(), device as c_int),
            RANGE_START => put(value.cast(), start),
            RANGE_SIZE => put(value.cast(), bytes),
            _ => return Err(INVALID_VALUE),
        }
        Ok(())
    }
    fn cuMemcpyHtoDAsync_v2(
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: Handle,
    ) |state, to, from, bytes, stream| {
        state.on(stream, "cuMemcpyHtoDAsync")?;
        let from = unsafe { from_raw_parts(from, bytes) };
        state.device()?.copy_to(to, from).map_err(illegal)
    }
    fn cuMemcpyDtoHAsync_v2(
        to: *mut u8,
        from: u64,
        bytes: usize,
        stream: Handle,
    ) |state, to, from, bytes, stream| {
        state.on(stream, "cuMemcpyDtoHAsync")?;
        let to = unsafe { from_raw_parts_mut(to, bytes) };
        state.device()?.copy_from(from, to).map_err(illegal)
    }
    fn cuMemcpyDtoDAsync_v2(
        to: u64,
        from: u64,
        bytes: usize,
        stream: Handle,
    ) |state, to, from, bytes, stream| {
        state.submit(stream, Work::CopyWithin { from, to, bytes })
    }

    fn cuTensorMapEncodeTiled(
        map: *mut emulator::TensorMap,
        element: c_uint,
        rank: c_uint,
        address: u64,
        extents: *const u64,
        strides: *const u64,
        lengths: *const c_uint,
        steps: *const c_uint,
        interleave: c_uint,
        swizzle: c_uint,
        promotion: c_uint,
        outside: c_uint,
    ) |state, map, element, rank, address, extents, strides, lengths, steps, interleave, swizzle, _, outside| {
        const HALVES: [c_uint; 2] = [6, 9];
        const SWIZZLES: [c_uint; 2] = [0, 3];
        state.current()?;
        let rank = rank as usize;
        if !HALVES.contains(&element) || !SWIZZLES.contains(&swizzle) || interleave + outside > 0 {
            return Err(INVALID_VALUE);
        }
        let (extents, strides) = unsafe { (from_raw_parts(extents, rank), from_raw_parts(strides, rank - 1)) };
        let (lengths, steps) = unsafe { (from_raw_parts(lengths, rank), from_raw_parts(steps, rank)) };
        let encoded = emulator::tensor_map(address, extents, strides, lengths, steps, swizzle > 0);
        put(map, encoded.map_err(|_| INVALID_VALUE)?);
        Ok(())
    }

    fn cuModuleLoadData(module: *mut Handle, image: *const u64) |state, module, image| {
        const FATBIN: u32 = 0xba55_ed50;
        if !image.is_aligned() || unsafe { *image } as u32 != FATBIN {
            return Err(INVALID_IMAGE);
        }
        put(module, state.make(Kind::Module)?);
        Ok(())
    }
    fn cuModuleGetFunction(
        function: *mut Handle,
        module: Handle,
        name: *const c_char,
    ) |state, function, module, name| {
        state.expect(Kind::Module, module)?;
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| NOT_FOUND)?;
        if emulator::argument_bytes(name).is_none() {
            return Err(NOT_FOUND);
        }
        put(function, state.function(module, name));
        Ok(())
    }
    fn cuModuleUnload(module: Handle) |state, module| state.destroy(Kind::Module, module)
    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_uint, function: Handle) |_, value, _, _| {
        put(value, 1024);
        Ok(())
    }
    fn cuFuncSetAttribute(function: Handle, attribute: c_uint, value: c_int) |state, function, attribute, value| {
        const MOST_DYNAMIC_SHARED_MEMORY: c_uint = 8;
        if attribute != MOST_DYNAMIC_SHARED_MEMORY || value > most_shared_memory() {
            return Err(INVALID_VALUE);
        }
        state.functions.get_mut(&(function as usize)).ok_or(INVALID_HANDLE)?.shared_memory = value as u32;
        Ok(())
    }
    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_memory: c_uint,
        stream: Handle,
        arguments: *const *const u8,
        extra: Handle,
    ) |state, function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_memory, stream, arguments, _| {
        let function = state.functions.get(&(function as usize)).ok_or(INVALID_HANDLE)?.clone();
        state.expect(Kind::Module, function.module as Handle)?;
        if shared_memory > function.shared_memory {
            return Err(INVALID_VALUE);
        }
        let sizes = emulator::argument_bytes(&function.name).ok_or(NOT_FOUND)?;
        let pointers = unsafe { from_raw_parts(arguments, sizes.len()) };
        let bytes = |(&pointer, &size): (&*const u8, &usize)| unsafe { from_raw_parts(pointer, size) }.to_vec();
        let arguments = pointers.iter().zip(&sizes).map(bytes).collect();
        let launch = emulator::Launch {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared_memory,
        };
        state.submit(stream, Work::Launch { name: function.name, launch, arguments })
    }

    fn cuGetErrorName(code: c_int, text: *mut *const c_char) |_, _, text| {
        put(text, c"CUDA_ERROR".as_ptr());
        Ok(())
    }
    fn cuGetErrorString(code: c_int, text: *mut *const c_char) |_, _, text| {
        put(text, c"as the emulated driver has it".as_ptr());
        Ok(())
    }
}

/// A fault, after which a GPU would be lost.
fn illegal(report: String) -> Result {
    eprintln!("{report}");
    ILLEGAL_ADDRESS
}
