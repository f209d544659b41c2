//! Linear layers by cuBLASLt.

use std::ffi::c_void;
use std::ptr;

use cudarc::cublaslt::{result, sys};
use cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut};
use rivals::{Arguments, Case};

use crate::{Clock, Element, Result};

/// The most memory that an algorithm may take for itself.
const WORKSPACE: usize = 32 << 20;
/// cuBLAS's `CUBLAS_OP_T`.
const TRANSPOSED: i32 = 1;
/// How many of those that cuBLASLt proposes are tried.
const PROPOSALS: usize = 16;

pub fn linear_layers<T: Element>(clock: &mut Clock, arguments: &Arguments) -> Result<()> {
    let handle = result::create_handle()?;
    let mut cases = arguments.cases.iter().filter(|case| case.name == "linear");
    cases.try_for_each(|case| linear::<T>(clock, handle, arguments, case))
}

/// `y = x weight^T + bias + residual`: x is [m, k], the weight [n, k], y [m, n]. To cuBLASLt, whose matrices lie column
/// after column, it is `y^T = weight x^T`, of a transposed weight.
fn linear<T: Element>(
    clock: &mut Clock,
    handle: sys::cublasLtHandle_t,
    arguments: &Arguments,
    case: &Case,
) -> Result<()> {
    let [ref rows @ .., k, n] = case.sizes[..] else { return Ok(()) };
    let m = arguments.batch * rows.iter().product::<usize>();
    let x = clock.random::<T>(m * k, 1.0)?;
    let weight = clock.random::<T>(n * k, (k as f32).sqrt().recip())?;
    let bias = clock.random::<T>(n, 1.0)?;
    let residual = case.has("residual").then(|| clock.random::<T>(m * n, 1.0)).transpose()?;
    let mut y = clock.stream.alloc_zeros::<T>(m * n)?;
    let mut workspace = clock.stream.alloc_zeros::<u8>(WORKSPACE)?;

    let stream = clock.stream.clone();
    let address = |slice: &CudaSlice<T>| slice.device_ptr(&stream).0;
    let product = Product::new::<T>([m, n, k], address(&bias))?;
    let y_address = y.device_ptr_mut(&stream).0;
    let workspace_address = workspace.device_ptr_mut(&stream).0;
    let c_address = residual.as_ref().map_or(y_address, address);
    let (alpha, beta) = (1.0_f32, if residual.is_some() { 1.0_f32 } else { 0.0 });
    clock.measure(arguments, case, product.ways(handle)?, |way| {
        // SAFETY: the matrices are as long as their layouts say, the workspace as long as the preference did, and all of
        // them live on the stream's device until this function ends, which is after the clock has waited for the stream.
        unsafe {
            #[rustfmt::skip]
            result::matmul(
                handle, product.description,
                ptr::from_ref(&alpha).cast(), ptr::from_ref(&beta).cast(),
                address(&weight) as *const c_void, product.weight,
                address(&x) as *const c_void, product.x,
                c_address as *const c_void, product.y,
                y_address as *mut c_void, product.y,
                &way.algo, workspace_address as *mut c_void, WORKSPACE, stream.cu_stream().cast(),
            )?;
        }
        Ok(())
    })
}

/// What cuBLASLt is told of a product. It lives as long as the process, which is short.
struct Product {
    description: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
}

impl Product {
    fn new<T: Element>([m, n, k]: [usize; 3], bias: u64) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let layout = |rows: usize, columns: usize| {
            result::create_matrix_layout(T::TYPE, rows as u64, columns as u64, rows as i64)
        };
        let description = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )?;
        let set = |attribute, value: *const c_void, size| {
            // SAFETY: the description was just made, and each value below is borrowed and has the size of its type.
            unsafe { result::set_matmul_desc_attribute(description, attribute, value, size) }
        };
        let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
        set(
            Attribute::CUBLASLT_MATMUL_DESC_TRANSA,
            ptr::from_ref(&TRANSPOSED).cast(),
            size_of_val(&TRANSPOSED),
        )?;
        set(
            Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
            ptr::from_ref(&epilogue).cast(),
            size_of_val(&epilogue),
        )?;
        set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, ptr::from_ref(&bias).cast(), size_of_val(&bias))?;
        Ok(Product { description, weight: layout(k, n)?, x: layout(k, m)?, y: layout(n, m)? })
    }

    /// What cuBLASLt proposes.
    fn ways(&self, handle: sys::cublasLtHandle_t) -> Result<Vec<sys::cublasLtMatmulHeuristicResult_t>> {
        let preference = result::create_matmul_pref()?;
        let mut count = 0;
        // SAFETY: every handle is alive, the size is borrowed, and there is room for as many results as are asked for.
        // All bits zero are a result: its state is then success, and nothing else of it has forbidden values.
        let mut ways = unsafe {
            result::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                ptr::from_ref(&WORKSPACE).cast(),
                size_of_val(&WORKSPACE),
            )?;
            let mut ways = vec![std::mem::zeroed::<sys::cublasLtMatmulHeuristicResult_t>(); PROPOSALS];
            #[rustfmt::skip]
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle, self.description, self.weight, self.x, self.y, self.y, preference,
                PROPOSALS as i32, ways.as_mut_ptr(), &mut count,
            ).result()?;
            ways
        };
        ways.truncate(usize::try_from(count)?);
        Ok(ways)
    }
}
