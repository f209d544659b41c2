//! The CUDA kernels in an emulator.

use noisefork::cuda::{Compute, Cuda};
use noisefork::reference::Reference;
use noisefork::tensor::Tensor;

use crate::case::{self, Readable, Tested};
use crate::latent::CombineCase;
use crate::support::emulated::Emulated;

impl<E: Compute> Readable for Cuda<Emulated, E> {
    fn tensor(&self, tensor: &Self::Tensor) -> Tensor<f64> {
        tensor.read().expect("an output that is written").cast()
    }
    fn latent(&self, latent: &Self::Latent) -> Tensor<f64> {
        latent.read().expect("an output that is written").cast()
    }
}

impl<E: Compute> Tested for Cuda<Emulated, E>
where
    Reference<f32, E>: Readable + Default,
{
    type Storage = E;
    type Rival = Reference<f32, E>;
}

/// An operation on latents: conforms, and gives the same bits under other schedules.
macro_rules! latent_operations {
    ($($op:ident: $case:ty, $cases:expr;)*) => {
        mod conforms {
            use super::*;
            $(#[test]
            fn $op() {
                case::check::<_, $case>(&Emulated::cuda::<f32>(1), $cases);
            })*
        }
        mod gives_the_same_bits_under_any_schedule {
            use super::*;
            $(#[test]
            fn $op() {
                case::check_schedules::<_, $case>(Emulated::cuda::<f32>);
            })*
        }
    };
}

latent_operations! {
    combine: CombineCase, 100;
}
