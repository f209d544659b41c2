//! Random streams that match other systems' bit for bit, or to the last float digit. Pure: no clock, no global state.

mod brownian_tree;
mod counter;
mod draws;
mod elementary;
mod mt19937;
mod normals;
mod philox;
mod seed_sequence;

pub use brownian_tree::{BrownianNoise, BrownianPaths, BrownianTree};
pub use counter::CounterStream;
pub(crate) use draws::fill_parts;
pub use draws::{Draw, NormalDraw, PathAction, PathDraw, PathStep};
pub use mt19937::{Mt19937, prepare_noise};
pub use normals::Normals;
pub use philox::{Philox, Topology};
pub use seed_sequence::SeedSequence;
