//! Every backend computes what the oracle computes, as exactly as plain code in its precision would, and the same bits
//! however many threads it has.

mod attention;
mod case;
mod conv2d;
mod cuda;
mod judge;
mod latent;
mod layout;
mod linear;
mod norm;
#[path = "../support/mod.rs"]
mod support;

use attention::AttentionCase;
use conv2d::Conv2dCase;
use judge::{Subject, judge};
use latent::{BlendCase, CombineCase, InjectCase};
use layout::{ConcatCase, EnterCase, LeaveCase, RowsCase};
use linear::LinearCase;
use norm::{GroupNormCase, LayerNormCase};

/// The whole suite for one backend; random cases per operation by what the oracle needs for one.
macro_rules! suite {
    ($name:ident, $backend:expr) => {
        mod $name {
            use super::*;

            suite! { $backend;
                linear: LinearCase, 2000;
                conv2d: Conv2dCase, 2000;
                group_norm: GroupNormCase, 2000;
                layer_norm: LayerNormCase, 2000;
                attention: AttentionCase, 1000;
                concat: ConcatCase, 300;
                rows: RowsCase, 100;
                enter: EnterCase, 300;
                leave: LeaveCase, 300;
                combine: CombineCase, 1000;
                inject: InjectCase, 100;
                blend: BlendCase, 500;
            }
        }
    };
    ($backend:expr; $($op:ident: $case:ty, $cases:expr;)*) => {
        mod conforms {
            use super::*;
            $(#[test]
            fn $op() {
                case::check::<_, $case>(&$backend, $cases);
            })*
        }
        mod gives_the_same_bits_at_any_thread_count {
            use super::*;
            $(#[test]
            fn $op() {
                case::check_bits::<_, $case>(&$backend);
            })*
        }
    };
}

suite!(cpu, noisefork::cpu::Cpu::new());
suite!(cpu_bf16, noisefork::cpu::Cpu::bf16());

mod conforms_with_every_instruction_set {
    use half::bf16;
    use noisefork::cpu::{Compute, Cpu, Isa};
    use noisefork::ops::{Attention, Backend, Columns};

    use super::{AttentionCase, Conv2dCase, LinearCase};
    use crate::case::{Case, Values, check, unwritten, upload};

    fn with_each<E: Compute>(run: impl Fn(Cpu<E>)) {
        for isa in Isa::ALL {
            match Cpu::<E>::with_isa(isa) {
                Ok(cpu) => run(cpu),
                Err(refusal) => println!("not run: {refusal}"),
            }
        }
    }

    fn every<C: Case>(cases: u32) {
        with_each::<f32>(|cpu| check::<_, C>(&cpu, cases));
        with_each::<bf16>(|cpu| check::<_, C>(&cpu, cases));
    }

    #[test]
    fn linear() {
        every::<LinearCase>(250);
    }

    #[test]
    fn conv2d() {
        every::<Conv2dCase>(250);
    }

    #[test]
    fn attention() {
        every::<AttentionCase>(300);
    }

    /// A query that is not a number is its own affair; a key is that of all that see it.
    #[test]
    fn attention_shows_nan() {
        fn shows<E: Compute>(cpu: &Cpu<E>) {
            const ROWS: usize = 70;
            const HEADS: usize = 2;
            const DEPTH: usize = 40;
            const POISONED: usize = 33;
            for which in 0..2 {
                let mut values = Values(1);
                let mut qkv = [(); 3].map(|()| values.tensor([1, ROWS, HEADS * DEPTH], 1.0));
                qkv[which].data_mut()[POISONED * HEADS * DEPTH + 7] = f32::NAN;
                let qkv = qkv.map(|tensor| upload::<E, _>(cpu, &tensor));
                let [q, k, v] = qkv.each_ref().map(|tensor| Columns { tensor, first: 0 });
                let op = Attention { q, k, v, channels: HEADS * DEPTH, heads: HEADS };
                let mut y = unwritten(cpu, op.check().expect("fitting shapes"));
                cpu.attention(&op, &mut y).expect("memory");
                for (i, head) in y.cast::<f64>().data().chunks(DEPTH).enumerate() {
                    let expected = i % HEADS == 0 && (which == 1 || i / HEADS == POISONED);
                    let what = ["query", "key"][which];
                    assert!(head.iter().all(|y| y.is_nan() == expected), "{what}: head {i} is {head:?}");
                }
            }
        }
        with_each::<f32>(|cpu| shows(&cpu));
        with_each::<bf16>(|cpu| shows(&cpu));
    }
}

mod an_items_bits_do_not_depend_on_its_batch {
    use half::{bf16, f16};
    use noisefork::cpu::Cpu;
    use noisefork::ops::{Activation, Attention, Columns, Conv2d, Linear};
    use noisefork::tensor::{Shaped, Tensor};

    use crate::case::{Tested, Values, pack, unwritten, upload};
    use crate::support::emulated::Emulated;

    fn check(x: &Tensor, items: usize, run: impl Fn(&Tensor) -> Tensor<f64>) {
        let batch = run(x);
        for item in 0..items {
            let alone = run(&x.items(item..item + 1).expect("an item"));
            assert!(alone == batch.items(item..item + 1).expect("an item"), "item {item} of {:?}", x.shape());
        }
    }

    fn linear<B: Tested>(backend: &B, items: usize, shapes: &[[usize; 3]]) {
        for &[rows, inputs, outputs] in shapes {
            let mut values = Values(1);
            let x = values.tensor([items, rows, inputs], 1.0);
            let weight = pack::<B::Storage, _>(backend, &values.tensor([outputs, inputs], 1.0));
            check(&x, items, |x| {
                let x = upload::<B::Storage, _>(backend, x);
                let activation = Activation::Silu;
                let op = Linear { x: &x, weight: &weight, bias: None, residual: None, activation };
                let mut y = unwritten(backend, op.check().expect("fitting shapes"));
                backend.linear(&op, &mut y).expect("fitting shapes");
                backend.tensor(&y)
            });
        }
    }

    fn conv2d<B: Tested>(backend: &B, items: usize, shapes: &[[usize; 3]]) {
        for &[size, inputs, outputs] in shapes {
            let mut values = Values(1);
            let x = values.tensor([items, size, size, inputs], 1.0);
            let weight = pack::<B::Storage, _>(backend, &values.tensor([outputs, 3, 3, inputs], 1.0));
            check(&x, items, |x| {
                let op = Conv2d {
                    x: &upload::<B::Storage, _>(backend, x),
                    weight: &weight,
                    bias: None,
                    shift: None,
                    residual: None,
                    activation: Activation::Silu,
                    stride: 1,
                    upsample: None,
                };
                let mut y = unwritten(backend, op.check().expect("fitting shapes"));
                backend.conv2d(&op, &mut y).expect("fitting shapes");
                backend.tensor(&y)
            });
        }
    }

    /// A sequence into itself: 3 heads of queries, keys and values side by side.
    fn attention<B: Tested>(backend: &B, items: usize, shapes: &[[usize; 2]]) {
        for &[tokens, depth] in shapes {
            let channels = 3 * depth;
            let qkv = Values(1).tensor([items, tokens, 3 * channels], 1.0);
            check(&qkv, items, |qkv| {
                let qkv = upload::<B::Storage, _>(backend, qkv);
                let [q, k, v] = [0, 1, 2].map(|part| Columns { tensor: &qkv, first: part * channels });
                let op = Attention { q, k, v, channels, heads: 3 };
                let mut y = unwritten(backend, op.check().expect("fitting shapes"));
                backend.attention(&op, &mut y).expect("fitting shapes");
                backend.tensor(&y)
            });
        }
    }

    /// So many that the batch is cut into other blocks than its items.
    const ITEMS: usize = 9;

    #[test]
    fn of_linear_on_cpu() {
        let shapes = [[1, 320, 1280], [1, 1030, 33], [150, 67, 64], [256, 700, 40]];
        linear(&Cpu::new(), ITEMS, &shapes);
        linear(&Cpu::bf16(), ITEMS, &shapes);
    }

    #[test]
    fn of_conv2d_on_cpu() {
        let shapes = [[16, 64, 64], [13, 700, 50], [16, 64, 4], [16, 4, 64], [5, 96, 96]];
        conv2d(&Cpu::new(), ITEMS, &shapes);
        conv2d(&Cpu::bf16(), ITEMS, &shapes);
    }

    #[test]
    fn of_attention_on_cpu() {
        let shapes = [[1, 40], [77, 40], [300, 16]];
        attention(&Cpu::new(), ITEMS, &shapes);
        attention(&Cpu::bf16(), ITEMS, &shapes);
    }

    #[test]
    fn of_linear_on_cuda() {
        // The second is cut along K.
        let shapes = [[40, 72, 130], [3, 600, 24]];
        linear(&Emulated::cuda::<f32>(1), 4, &shapes);
        linear(&Emulated::cuda::<f16>(1), 4, &shapes);
    }

    #[test]
    fn of_conv2d_on_cuda() {
        let shapes = [[7, 8, 72], [3, 64, 24]];
        conv2d(&Emulated::cuda::<f32>(1), 4, &shapes);
        conv2d(&Emulated::cuda::<bf16>(1), 4, &shapes);
    }
}

mod the_judge {
    use super::*;

    const ORACLE: [f64; 4] = [1.0, -2.0, 3.0, 0.0];
    const RIVAL: [f64; 4] = [1.0, -2.0, 3.1, 0.0];

    fn verdict(got: [f64; 4], oracle: [f64; 4], rival: [f64; 4]) -> Result<(), String> {
        judge(Subject { case: &"op", shape: &[2, 2] }, &got, &oracle, &rival, 0.001)
    }

    #[test]
    fn accepts_twice_the_rivals_error_and_the_floor() {
        assert_eq!(verdict([1.2, -2.0, 3.0, 0.0], ORACLE, RIVAL), Ok(()));
        assert_eq!(verdict([1.0005, -2.0, 3.0, 0.0], ORACLE, ORACLE), Ok(()));
    }

    #[test]
    fn refuses_three_times_the_rivals_error_and_says_where() {
        let message = verdict([1.0, -2.0, 3.0, 0.3], ORACLE, RIVAL).unwrap_err();
        for part in ["op", "0.3 instead of 0", "[1, 1] of [2, 2]", "3.000e-1"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }

    #[test]
    fn refuses_what_is_not_finite() {
        for bad in [f64::NAN, f64::INFINITY] {
            for at in 0..4 {
                let with = |mut values: [f64; 4]| {
                    values[at] = bad;
                    values
                };
                assert!(verdict(with(ORACLE), ORACLE, RIVAL).is_err(), "got {bad}");
                assert!(verdict(ORACLE, with(ORACLE), RIVAL).is_err(), "oracle {bad}");
                assert!(verdict(ORACLE, ORACLE, with(RIVAL)).is_err(), "rival {bad}");
                assert!(verdict(with(ORACLE), with(ORACLE), with(RIVAL)).is_err(), "all {bad}");
            }
        }
    }

    #[test]
    fn refuses_another_number_of_values() {
        let subject = Subject { case: &"op", shape: &[2, 2] };
        assert!(judge(subject, &ORACLE[..3], &ORACLE, &RIVAL, 1.0).is_err());
    }
}
