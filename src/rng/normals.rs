use serde::{Deserialize, Serialize};

use super::counter::CounterStream;
use super::draws::NormalDraw;
use super::mt19937::Mt19937;
use super::philox::{Philox, PhiloxDraw, Topology};
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

    /// The draws of `elements` values as data, whatever their seed; `None` for one whose values come one after the other.
    pub(super) fn as_data(self, elements: usize) -> Option<NormalDraw> {
        match self {
            Normals::TorchCpu => None,
            Normals::TorchCuda(topology) => Philox::new(0, topology).next_draw(elements).ok(),
            Normals::Counter => Some(CounterStream::new(0).draw(0, 0)),
        }
    }

    /// The same draw without its first `first` values, a multiple of 16.
    pub(super) fn draw_from(self, seed: u64, elements: usize, first: usize) -> Draw {
        let mut draw = self.draw(seed, elements);
        match &mut draw {
            Draw::TorchCpu(generator) => generator.skip(first),
            Draw::TorchCuda(draw) => draw.skip(first),
            Draw::Counter { next, .. } => *next += first as u64,
        }
        draw
    }

    /// What it costs to pass over a value, as a part of what it costs to draw it.
    pub(super) fn skip_cost(self) -> f64 {
        match self {
            Normals::TorchCpu => 0.15,
            Normals::TorchCuda(_) | Normals::Counter => 0.0,
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
