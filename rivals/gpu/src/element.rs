//! What is computed in, with sums in f32.

use cudarc::cublaslt::sys::cudaDataType::{self, CUDA_R_16BF, CUDA_R_16F, CUDA_R_32F};
use cudarc::cudnn::CudnnDataType;
use cudarc::cudnn::sys::cudnnMathType_t::{self, CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH};
use cudarc::driver::{DeviceRepr, ValidAsZeroBits};
use half::{bf16, f16};

pub trait Element: CudnnDataType + DeviceRepr + ValidAsZeroBits + Copy {
    /// As cuBLASLt calls it.
    const TYPE: cudaDataType;
    const MATH: cudnnMathType_t;
    const OF: fn(f32) -> Self;
}

macro_rules! element {
    ($element:ty, $type:expr, $math:expr, $of:expr) => {
        impl Element for $element {
            const TYPE: cudaDataType = $type;
            const MATH: cudnnMathType_t = $math;
            const OF: fn(f32) -> Self = $of;
        }
    };
}

// Not rounded to what tensor cores take of it, for ours is not.
element!(f32, CUDA_R_32F, CUDNN_FMA_MATH, |value| value);
element!(f16, CUDA_R_16F, CUDNN_TENSOR_OP_MATH, f16::from_f32);
element!(bf16, CUDA_R_16BF, CUDNN_TENSOR_OP_MATH, bf16::from_f32);
