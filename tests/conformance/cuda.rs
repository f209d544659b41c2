//! The CUDA kernels in an emulator, and on a GPU where there is one.

use std::sync::Arc;

use half::{bf16, f16};
use noisefork::cuda::{Compute, Cuda, Launcher};
use noisefork::reference::Reference;
use noisefork::tensor::Tensor;

use crate::attention::AttentionCase;
use crate::case::{self, OnHopper, Readable, Tested};
use crate::conv2d::Conv2dCase;
use crate::latent::{BlendCase, CombineCase, InjectCase};
use crate::layout::{ConcatCase, EnterCase, LeaveCase, RowsCase};
use crate::linear::LinearCase;
use crate::norm::{GroupNormCase, LayerNormCase};
use crate::support::emulated::Emulated;

impl<L: Launcher, E: Compute> Readable for Cuda<L, E> {
    fn tensor(&self, tensor: &Self::Tensor) -> Tensor<f64> {
        tensor.read().expect("an output that is written").cast()
    }
    fn latent(&self, latent: &Self::Latent) -> Tensor<f64> {
        latent.read().expect("an output that is written").cast()
    }
}

impl<L: Launcher, E: Compute> Tested for Cuda<L, E>
where
    Reference<f32, E>: Readable + Default,
{
    type Storage = E;
    type Rival = Reference<f32, E>;
}

/// Operations: each conforms, and gives the same bits under other schedules, in more cases and again where a GPU is fast.
macro_rules! operations {
    ($name:ident, $element:ty: $($op:ident: $case:ty, $cases:expr;)*) => {
        mod $name {
            use super::*;
            mod conforms {
                use super::*;
                $(#[test]
                fn $op() {
                    case::check::<_, $case>(&Emulated::cuda::<$element>(1), $cases);
                })*
            }
            mod gives_the_same_bits_under_any_schedule {
                use super::*;
                $(#[test]
                fn $op() {
                    case::check_schedules::<_, $case>(Emulated::cuda::<$element>);
                })*
            }
            #[cfg(feature = "cuda")]
            mod conforms_on_a_gpu {
                use super::*;
                $(#[test]
                fn $op() {
                    let test = concat!(stringify!($name), "::conforms_on_a_gpu::", stringify!($op));
                    let gpu = || crate::support::gpu::cuda::<$element>(test);
                    let Some(backend) = gpu() else { return };
                    case::check::<_, $case>(&backend, crate::support::gpu::cases($cases));
                    case::check_schedules::<_, $case>(|_| gpu().expect("it was there"));
                })*
            }
        }
    };
}

/// Those inside a network, in every type that kernels compute in.
macro_rules! network_operations {
    ($($name:ident $element:ty,)*) => {$(
        operations! { $name, $element:
            linear: LinearCase, 60;
            conv2d: Conv2dCase, 60;
            attention: AttentionCase, 40;
            group_norm: GroupNormCase, 60;
            layer_norm: LayerNormCase, 60;
            concat: ConcatCase, 50;
            rows: RowsCase, 20;
            enter: EnterCase, 50;
            leave: LeaveCase, 50;
        }
    )*};
}
network_operations! { in_f32 f32, in_f16 f16, in_bf16 bf16, }

operations! { latents, f32:
    combine: CombineCase, 100;
    inject: InjectCase, 60;
    blend: BlendCase, 50;
}

/// Operations that have kernels for Hopper, in the types that have them: on an H100, and with so few multiprocessors that
/// tiles are large.
macro_rules! on_hopper {
    ($($name:ident $element:ty, $case:ty, $kernel:literal, $cases:expr;)*) => {$(
        mod $name {
            use super::*;
            type OnIt = OnHopper<$case>;

            #[test]
            fn conforms() {
                for (multiprocessors, cases) in [(132, $cases), (1, $cases / 4)] {
                    let emulated = Arc::new(Emulated::hopper(multiprocessors, 1));
                    case::check::<_, OnIt>(&Cuda::<_, $element>::new(emulated.clone()), cases);
                    let launches = emulated.launches.lock().unwrap();
                    let others: Vec<_> = launches.keys().filter(|name| !name.starts_with($kernel)).collect();
                    assert!(others.iter().all(|name| **name == "split_k"), "{others:?}");
                }
            }

            #[test]
            fn gives_the_same_bits_under_any_schedule() {
                case::check_schedules::<_, OnIt>(|seed| {
                    Cuda::<_, $element>::new(Arc::new(Emulated::hopper(132, seed)))
                });
            }
        }
    )*};
}
on_hopper! {
    linear_on_hopper_in_f16 f16, LinearCase, "product_hopper", 40;
    linear_on_hopper_in_bf16 bf16, LinearCase, "product_hopper", 40;
    conv2d_on_hopper_in_f16 f16, Conv2dCase, "product_hopper", 40;
    conv2d_on_hopper_in_bf16 bf16, Conv2dCase, "product_hopper", 40;
    attention_on_hopper_in_f16 f16, AttentionCase, "attention_hopper", 40;
    attention_on_hopper_in_bf16 bf16, AttentionCase, "attention_hopper", 40;
}
