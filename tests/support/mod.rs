//! What the tests share: golden files and comparisons that cannot pass by accident.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod compare;
pub mod counter;
pub mod emulated;
pub mod files;
pub mod golden;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod report;
pub mod toy;
