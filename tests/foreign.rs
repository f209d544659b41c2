//! Tensors over memory of a caller's.

mod support;

use std::path::Path;
use std::sync::Arc;

use half::f16;
use noisefork::cuda::{Cuda, Foreign, Launcher, Layout};
use noisefork::error::{Error, Result};
use noisefork::ops::{Backend, Combine};
use noisefork::tensor::{DType, Shape, Tensor};
use noisefork::unet::UNet;
use support::emulated::Emulated;

fn values(shape: Shape, seed: u64) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    noisefork::rng::Mt19937::new(seed).randn(tensor.data_mut());
    tensor
}

/// Memory of a caller's that holds these bytes.
fn foreign(emulated: &Emulated, bytes: &[u8], dtype: DType, shape: Shape, layout: Layout) -> Foreign {
    let address = emulated.alloc(bytes.len()).unwrap();
    // SAFETY: there are so many.
    unsafe { emulated.copy_to(address, bytes) }.unwrap();
    Foreign { address, bytes: bytes.len(), dtype, shape, layout }
}

#[test]
fn latents_are_read_and_written_where_they_lie() {
    let emulated = Arc::new(Emulated::new(1));
    let gpu = Cuda::<_, f16>::new(emulated.clone());
    let host = values([2, 4, 5, 3].into(), 1);
    let bytes: &[u8] = bytemuck::cast_slice(host.data());
    let [x, y] =
        [(); 2].map(|()| foreign(&emulated, bytes, DType::F32, [2, 4, 5, 3].into(), Layout::ChannelsFirst));
    {
        // SAFETY: both outlive this block, and nobody else uses them.
        let [x, mut y] = [x, y].map(|memory| unsafe { gpu.foreign_latent(&memory) }.unwrap());
        gpu.combine(&Combine { terms: &[(2.0, &x)] }, &mut y).unwrap();
    }
    // The tensor is gone, the memory is not.
    let mut back = vec![0f32; host.data().len()];
    // SAFETY: there are so many.
    unsafe { emulated.copy_from(y.address, bytemuck::cast_slice_mut(&mut back)) }.unwrap();
    assert!(back.iter().zip(host.data()).all(|(y, x)| *y == 2.0 * x));
    // SAFETY: nothing uses them any more; what was freed twice would be an error.
    [x, y].iter().for_each(|memory| unsafe { emulated.free(memory.address) });
}

#[test]
fn a_network_takes_its_input_from_where_it_lies() {
    let emulated = Arc::new(Emulated::new(1));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/unet_sd15");
    let unet = Arc::new(UNet::load(Arc::new(Cuda::<_, f16>::new(emulated.clone())), folder).unwrap());
    let mut plan = unet.plan(1, [8, 8], 7).unwrap();
    let context = values([1, 7, unet.config().cross_attention_dim()].into(), 2);
    let conditioning = unet.prepare(&context, 1, None).unwrap();
    let times = unet.times(&[[700.0]], &conditioning).unwrap();
    let host = values(plan.shape(), 3);
    let uploaded = unet.backend().upload(&host).unwrap();
    let want = plan.forward(&uploaded, &times, 0, &conditioning).unwrap().read().unwrap();

    let narrow: Tensor<f16> = host.cast();
    let bytes = bytemuck::cast_slice(narrow.data());
    let memory = foreign(&emulated, bytes, DType::F16, plan.shape(), Layout::ChannelsLast);
    // SAFETY: it is freed below, when nothing uses it any more.
    let x = unsafe { unet.backend().foreign_tensor(&memory) }.unwrap();
    // Launched, then replayed.
    for _ in 0..2 {
        assert!(plan.forward(&x, &times, 0, &conditioning).unwrap().read().unwrap() == want);
    }
    // SAFETY: as said.
    unsafe { emulated.free(memory.address) };
}

#[test]
fn memory_that_can_be_no_such_tensor_is_refused() {
    let emulated = Arc::new(Emulated::new(1));
    let gpu = Cuda::<_, f16>::new(emulated.clone());
    let shape = Shape::from([1, 4, 4, 8]);
    let good = foreign(&emulated, &[0; 256], DType::F16, shape, Layout::ChannelsLast);
    let tensor = |memory: Foreign| -> Result<()> {
        // SAFETY: nothing is launched on it.
        unsafe { gpu.foreign_tensor(&memory) }.map(drop)
    };
    tensor(good).unwrap();
    let elsewhere = Emulated::new(1).alloc(256).unwrap();
    for (what, bad) in [
        ("dtype", Foreign { dtype: DType::F32, ..good }),
        ("layout", Foreign { layout: Layout::ChannelsFirst, ..good }),
        ("bytes", Foreign { bytes: 255, ..good }),
        ("bytes", Foreign { shape: [1 << 40, 1 << 40].into(), ..good }),
        ("address", Foreign { address: good.address + 2, ..good }),
        ("address", Foreign { address: 0, ..good }),
        ("address", Foreign { address: elsewhere, ..good }),
        // Within the allocation, but not to its end.
        ("address", Foreign { address: good.address + 16, ..good }),
    ] {
        match tensor(bad) {
            Err(Error::Value { op: "foreign", what: got, .. }) => assert_eq!(got, what, "{bad:?}"),
            other => panic!("{bad:?}: {other:?}"),
        }
    }
    let latent =
        Foreign { dtype: DType::F32, layout: Layout::ChannelsFirst, shape: [1, 4, 4, 4].into(), ..good };
    // SAFETY: nothing is launched on them.
    unsafe {
        gpu.foreign_latent(&latent).map(drop).unwrap();
        let refused = gpu.foreign_latent(&good).map(drop);
        assert!(matches!(refused, Err(Error::Value { what: "dtype", .. })), "{refused:?}");
        emulated.free(good.address);
    }
}
