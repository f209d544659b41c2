use serde::{Deserialize, Serialize};

use super::counter::CounterStream;
use super::mt19937::Mt19937;
use super::philox::{PhiloxDraw, Topology};
use crate::error::Result;

/// How a seed gives normal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Normals {
    /// [`Mt19937`], as torch draws on a CPU.
    #[default]
    TorchCpu,
    /// [`Philox`](super::Philox), as torch draws on a GPU of this topology.
    TorchCuda(Topology),
    /// [`CounterStream`], item 0 and draw 0.
    Counter,
}

impl Normals {
    /// A draw of `elements` values under `seed`, to be filled part by part.
    pub(super) fn draw(self, seed: u64, elements: usize) -> Draw {
        match self {
            Normals::TorchCpu => Draw::TorchCpu(Box::new(Mt19937::new(seed))),
            Normals::TorchCuda(topology) => Draw::TorchCuda(topology.draw(seed, elements)),
            Normals::Counter => Draw::Counter { stream: CounterStream::new(seed), next: 0 },
        }
    }

    /// Refuses what cannot be one draw.
    pub(super) fn check(self, op: &'static str, elements: usize) -> Result<()> {
        match self {
            Normals::TorchCuda(topology) => topology.check(op, elements),
            Normals::TorchCpu | Normals::Counter => Ok(()),
        }
    }
}

/// A draw under way.
pub(super) enum Draw {
    TorchCpu(Box<Mt19937>),
    TorchCuda(PhiloxDraw),
    Counter { stream: CounterStream, next: u64 },
}

impl Draw {
    /// The draw's next values. Parts are those of [`parts`](super::mt19937::parts).
    pub(super) fn fill(&mut self, out: &mut [f32]) {
        match self {
            Draw::TorchCpu(generator) => generator.randn(out),
            Draw::TorchCuda(draw) => draw.fill(out),
            Draw::Counter { stream, next } => {
                stream.randn(0, 0, *next, out);
                *next += out.len() as u64;
            }
        }
    }
}
