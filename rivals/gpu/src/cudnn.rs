//! Convolutions by cuDNN.

use std::ffi::c_int;
use std::sync::Arc;

use cudarc::cudnn::sys::{
    cudnnConvolutionFwdAlgo_t as Algorithm, cudnnConvolutionMode_t, cudnnTensorFormat_t,
};
use cudarc::cudnn::{ConvForward, Cudnn};
use rivals::{Arguments, Case};

use crate::{Clock, Element, Result};

#[rustfmt::skip]
const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_GEMM,
    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT,
    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING,
    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
];
/// The most memory that an algorithm may take for itself.
const WORKSPACE: usize = 1 << 30;

pub fn convolutions<T: Element>(clock: &mut Clock, arguments: &Arguments) -> Result<()> {
    let cudnn = Cudnn::new(clock.stream.clone())?;
    let mut cases = arguments.cases.iter().filter(|case| case.name == "conv2d");
    cases.try_for_each(|case| conv2d::<T>(clock, &cudnn, arguments, case))
}

fn conv2d<T: Element>(
    clock: &mut Clock,
    cudnn: &Arc<Cudnn>,
    arguments: &Arguments,
    case: &Case,
) -> Result<()> {
    let [h, w, inputs, kernel, _, outputs] = case.sizes[..] else { return Ok(()) };
    let (padding, stride) = (kernel / 2, if case.has("halved") { 2 } else { 1 });
    let image = [h, w].map(|side| if case.has("doubled") { 2 * side } else { side });
    let result = image.map(|side| (side + 2 * padding - kernel) / stride + 1);
    let shapes = [
        [arguments.batch, inputs, image[0], image[1]],
        [outputs, inputs, kernel, kernel],
        [arguments.batch, outputs, result[0], result[1]],
    ];
    let [x_shape, weight_shape, y_shape] = shapes.map(|shape| shape.map(|extent| extent as c_int));
    let [x_len, weight_len, y_len] = shapes.map(|shape| shape.iter().product::<usize>());

    let (last, correlation) =
        (cudnnTensorFormat_t::CUDNN_TENSOR_NHWC, cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION);
    let mut conv =
        cudnn.create_conv2d::<f32>([padding as c_int; 2], [stride as c_int; 2], [1; 2], correlation)?;
    conv.set_math_type(T::MATH)?;
    let forward = ConvForward {
        conv: &conv,
        x: &cudnn.create_4d_tensor::<T>(last, x_shape)?,
        w: &cudnn.create_4d_filter::<T>(last, weight_shape)?,
        y: &cudnn.create_4d_tensor::<T>(last, y_shape)?,
    };
    let x = clock.random::<T>(x_len, 1.0)?;
    let weight = clock.random::<T>(weight_len, ((kernel * kernel * inputs) as f32).sqrt().recip())?;
    let mut y = clock.stream.alloc_zeros::<T>(y_len)?;

    let size = |algorithm| forward.get_workspace_size(algorithm).ok().filter(|&size| size <= WORKSPACE);
    let sizes: Vec<_> = ALGORITHMS.into_iter().filter_map(|way| Some((way, size(way)?))).collect();
    let most = sizes.iter().map(|&(_, size)| size).max().unwrap_or(0);
    let mut workspace = clock.stream.alloc_zeros::<u8>(most.max(1))?;
    clock.measure(arguments, case, sizes, |(algorithm, _)| {
        // SAFETY: each tensor is as long as its descriptor says, and the workspace as the hungriest algorithm wants it.
        unsafe {
            forward.launch(
                algorithm,
                Some(&mut workspace),
                ((T::OF)(1.0), (T::OF)(0.0)),
                &x,
                &weight,
                &mut y,
            )?;
        }
        Ok(())
    })
}
