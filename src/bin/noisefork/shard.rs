//! `K/N`: one of the parts that a batch is made in, anywhere and in any order.

use std::ops::Range;
use std::str::FromStr;

use noisefork::error::{Error, Result};
use noisefork::sampling::Part;

#[derive(Debug, Clone, Copy)]
pub struct Shard {
    shard: usize,
    shards: usize,
}

impl Shard {
    /// Its items of a batch, which may be none.
    pub fn items(self, batch: usize) -> Result<Range<usize>> {
        let (Part { first, .. }, length) = Part::shard(self.shard, self.shards, batch)?;
        Ok(first..first + length)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((shard, shards)) if (1..=shards).contains(&shard) => Ok(Shard { shard, shards }),
            _ => {
                let expected = "K/N with K within 1 to N, such as 2/4".into();
                Err(Error::Value { op: "variations", what: "shard", expected, got: format!("{text:?}") })
            }
        }
    }
}
