//! Runs noisefork's CUDA kernels, the files of `kernels/` themselves, on the CPU, and checks every access that they make.
//!
//! See README.md for what it finds and what it does not model.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Mutex;

/// An emulated GPU. Launches on it follow one another, on the calling thread.
#[derive(Debug)]
pub struct Device {
    state: Mutex<State>,
    seed: u64,
}

#[derive(Debug)]
struct State {
    machine: NonNull<Machine>,
    launches: u64,
}

/// How a kernel is launched.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Launch {
    /// Blocks, in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared_memory: u32,
}

/// As `runtime/device.cpp` has it.
#[repr(C)]
enum Copy {
    ToDevice,
    FromDevice,
    Within,
}

#[repr(C)]
struct Machine {
    opaque: [u8; 0],
}

unsafe extern "C" {
    fn emulator_open(capability: u32) -> *mut Machine;
    fn emulator_close(machine: *mut Machine);
    fn emulator_alloc(machine: *mut Machine, bytes: usize) -> *mut c_void;
    fn emulator_free(machine: *mut Machine, p: *mut c_void) -> bool;
    fn emulator_has(machine: *mut Machine, p: *const c_void, bytes: usize) -> bool;
    fn emulator_copy(
        machine: *mut Machine,
        kind: Copy,
        to: *mut c_void,
        from: *const c_void,
        bytes: usize,
        error: *mut c_char,
        size: usize,
    ) -> bool;
    fn emulator_renew(machine: *mut Machine, p: *mut c_void, bytes: usize) -> bool;
    fn emulator_launch(
        machine: *mut Machine,
        name: *const c_char,
        launch: *const Launch,
        seed: u64,
        arguments: *mut *mut c_void,
        sizes: *const usize,
        count: usize,
        error: *mut c_char,
        size: usize,
    ) -> bool;
    fn emulator_tensor_map(
        to: *mut TensorMap,
        address: u64,
        rank: u32,
        extents: *const u64,
        strides: *const u64,
        lengths: *const u32,
        steps: *const u32,
        swizzled: bool,
        error: *mut c_char,
        size: usize,
    ) -> bool;
    fn emulator_argument_bytes(name: *const c_char, sizes: *mut usize, most: c_int) -> c_int;
    fn emulator_signature(name: *const c_char, text: *mut c_char, size: usize) -> bool;
}

// SAFETY: the machine is one object with no ties to the thread that made it, and it is only reached through the mutex.
unsafe impl Send for State {}

impl Device {
    /// A device of this compute capability (80 for 8.0), whose launches are scheduled by `seed`.
    pub fn new(capability: u32, seed: u64) -> Self {
        // SAFETY: it has no preconditions, and aborts rather than return null.
        let machine = NonNull::new(unsafe { emulator_open(capability) }).expect("a machine");
        Device { state: Mutex::new(State { machine, launches: 0 }), seed }
    }

    /// Device memory that nothing has been written to; `None` where there is too little.
    pub fn alloc(&self, bytes: usize) -> Option<u64> {
        // SAFETY: the machine is alive as long as `self`, and locked.
        self.with(|machine| unsafe { emulator_alloc(machine, bytes) }).map_or(None, |p| match p as u64 {
            0 => None,
            address => Some(address),
        })
    }

    /// Whether these bytes lie within an allocation.
    ///
    /// # Errors
    /// If a launch on another thread panicked.
    pub fn has(&self, address: u64, bytes: usize) -> Result<bool, String> {
        // SAFETY: the machine is alive as long as `self`, and locked; it looks the address up and does not use it.
        self.with(|machine| unsafe { emulator_has(machine, address as *const c_void, bytes) })
    }

    /// Gives memory back.
    ///
    /// # Errors
    /// If it is not the start of an allocation.
    pub fn free(&self, address: u64) -> Result<(), String> {
        // SAFETY: the machine is alive as long as `self`, and locked; it looks the address up before it uses it.
        let freed = self.with(|machine| unsafe { emulator_free(machine, address as *mut c_void) })?;
        if freed { Ok(()) } else { Err("what is freed is no allocation".to_owned()) }
    }

    /// Makes an allocation one of `bytes` bytes that nothing has been written to, for what hands out memory again.
    ///
    /// # Errors
    /// If it is not the start of an allocation, or too small.
    pub fn renew(&self, address: u64, bytes: usize) -> Result<(), String> {
        // SAFETY: the machine is alive as long as `self`, and locked; it looks the address up before it uses it.
        let renewed =
            self.with(|machine| unsafe { emulator_renew(machine, address as *mut c_void, bytes) })?;
        if renewed { Ok(()) } else { Err(format!("what is renewed is no allocation of {bytes} bytes")) }
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// If the bytes do not lie within an allocation; so for the copies below.
    pub fn copy_to(&self, to: u64, from: &[u8]) -> Result<(), String> {
        // SAFETY: `from` is as long as is said; the machine looks the other address up before it uses it.
        self.report(|machine, error, size| unsafe {
            emulator_copy(
                machine,
                Copy::ToDevice,
                to as *mut c_void,
                from.as_ptr().cast(),
                from.len(),
                error,
                size,
            )
        })
    }

    /// Copies to the host.
    ///
    /// # Errors
    /// Also if nothing wrote one of the bytes.
    pub fn copy_from(&self, from: u64, to: &mut [u8]) -> Result<(), String> {
        // SAFETY: `to` is as long as is said; the machine looks the other address up before it uses it.
        self.report(|machine, error, size| unsafe {
            emulator_copy(
                machine,
                Copy::FromDevice,
                to.as_mut_ptr().cast(),
                from as *const c_void,
                to.len(),
                error,
                size,
            )
        })
    }

    /// Copies within the device.
    ///
    /// # Errors
    /// As above.
    pub fn copy_within(&self, from: u64, to: u64, bytes: usize) -> Result<(), String> {
        // SAFETY: the machine looks both addresses up before it uses them.
        self.report(|machine, error, size| unsafe {
            emulator_copy(machine, Copy::Within, to as *mut c_void, from as *const c_void, bytes, error, size)
        })
    }

    /// Runs a kernel to its end. Arguments are the bytes of each, as the driver takes them.
    ///
    /// # Errors
    /// If a driver would refuse the launch, and what the checker found, with the seed of the schedule.
    pub fn launch(&self, kernel: &str, launch: Launch, arguments: &[&[u8]]) -> Result<(), String> {
        let name = CString::new(kernel).map_err(|_| "a name with a NUL".to_owned())?;
        // The kernel's own type is read from there, aligned as that may be.
        let mut copies: Vec<Vec<Line>> = arguments.iter().map(|bytes| aligned(bytes)).collect();
        let mut pointers: Vec<*mut c_void> = copies.iter_mut().map(|copy| copy.as_mut_ptr().cast()).collect();
        let sizes: Vec<usize> = arguments.iter().map(|bytes| bytes.len()).collect();
        let number = self.state.lock().map_err(|_| POISONED)?.launches;
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
        // SAFETY: name, pointers and sizes live through the call and have the lengths that are said. Every access of the
        // kernel is checked to lie within memory of the device before it is made.
        self.report(|machine, error, size| unsafe {
            let (pointers, sizes, count) = (pointers.as_mut_ptr(), sizes.as_ptr(), arguments.len());
            emulator_launch(machine, name.as_ptr(), &launch, seed, pointers, sizes, count, error, size)
        })
    }

    fn with<T>(&self, f: impl FnOnce(*mut Machine) -> T) -> Result<T, String> {
        let mut state = self.state.lock().map_err(|_| POISONED)?;
        state.launches += 1;
        Ok(f(state.machine.as_ptr()))
    }

    /// Calls what tells of failure through a buffer.
    fn report(&self, f: impl FnOnce(*mut Machine, *mut c_char, usize) -> bool) -> Result<(), String> {
        let mut text = vec![0u8; 1 << 14];
        let done = self.with(|machine| f(machine, text.as_mut_ptr().cast(), text.len()))?;
        if done { Ok(()) } else { Err(text_of(&text)) }
    }
}

const POISONED: &str = "a launch on another thread panicked";

impl Drop for Device {
    fn drop(&mut self) {
        if let Ok(state) = self.state.get_mut() {
            // SAFETY: it was opened in `new`, and nobody else holds it.
            unsafe { emulator_close(state.machine.as_ptr()) };
        }
    }
}

/// A tensor of 16-bit elements in boxes, as a kernel's argument.
pub type TensorMap = [u64; 16];

/// As the driver's `cuTensorMapEncodeTiled` makes one, of the same lists, innermost dimension first: without interleaving,
/// and with zeros outside.
///
/// # Errors
/// If the driver would refuse it.
///
/// # Panics
/// If the lists are not of one length, but for the strides, of which there is one less.
pub fn tensor_map(
    address: u64,
    extents: &[u64],
    strides: &[u64],
    lengths: &[u32],
    steps: &[u32],
    swizzled: bool,
) -> Result<TensorMap, String> {
    let rank = extents.len();
    assert!([strides.len() + 1, lengths.len(), steps.len()] == [rank; 3], "lists of one tensor");
    let (mut map, mut text) = ([0; 16], [0u8; 256]);
    // SAFETY: the lists are as long as is said, and live through the call, as the buffers do.
    let encoded = unsafe {
        emulator_tensor_map(
            &mut map,
            address,
            rank as u32,
            extents.as_ptr(),
            strides.as_ptr(),
            lengths.as_ptr(),
            steps.as_ptr(),
            swizzled,
            text.as_mut_ptr().cast(),
            text.len(),
        )
    };
    if encoded { Ok(map) } else { Err(text_of(&text)) }
}

/// The types of a kernel's arguments, as Rust writes them, with ", " between; `None` if there is no such kernel.
pub fn signature(kernel: &str) -> Option<String> {
    let name = CString::new(kernel).ok()?;
    let mut text = vec![0u8; 1 << 12];
    // SAFETY: both buffers live through the call and have the lengths that are said.
    let found = unsafe { emulator_signature(name.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
    found.then(|| text_of(&text))
}

/// The sizes of a kernel's arguments in bytes; `None` if there is no such kernel.
pub fn argument_bytes(kernel: &str) -> Option<Vec<usize>> {
    const MOST: usize = 64;
    let name = CString::new(kernel).ok()?;
    let mut sizes = vec![0; MOST];
    // SAFETY: both buffers live through the call and have the lengths that are said.
    let count = unsafe { emulator_argument_bytes(name.as_ptr(), sizes.as_mut_ptr(), MOST as c_int) };
    sizes.truncate(usize::try_from(count).ok()?);
    Some(sizes)
}

fn text_of(buffer: &[u8]) -> String {
    CStr::from_bytes_until_nul(buffer)
        .map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}

/// As much as an argument is aligned to at most.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

fn aligned(bytes: &[u8]) -> Vec<Line> {
    let mut lines = vec![Line([0; 64]); bytes.len().div_ceil(64)];
    for (Line(line), bytes) in lines.iter_mut().zip(bytes.chunks(64)) {
        line[..bytes.len()].copy_from_slice(bytes);
    }
    lines
}
