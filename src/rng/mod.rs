//! Random streams that match other systems' bit for bit, or to the last float digit. Pure: no clock, no global state.

mod brownian_tree;
mod elementary;
mod mt19937;
mod seed_sequence;

pub use brownian_tree::{BrownianNoise, BrownianPaths, BrownianTree};
pub use mt19937::{Mt19937, prepare_noise};
pub use seed_sequence::SeedSequence;
