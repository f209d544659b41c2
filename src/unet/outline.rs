use std::sync::Arc;

use super::blocks::Given;
use super::{Config, UNet};
use crate::error::Result;
use crate::nn::{KeysValues, Weights};
use crate::ops::{Backend, Rows};
use crate::tensor::{DType, Shaped};
use crate::trace::{Event, Sketch, Traced};

impl Config {
    /// Every operation of one answer, in order, for `batch` items `height` by `width` and contexts of so many `tokens`, in a
    /// compute type on which the bytes depend. None is run, so times mean nothing, and no weights are needed.
    ///
    /// # Errors
    /// Those of the operations, as for a size that is 0.
    pub fn operations(
        &self,
        dtype: DType,
        batch: usize,
        [height, width]: [usize; 2],
        tokens: usize,
    ) -> Result<Vec<Event>> {
        let backend = Arc::new(Traced::new(Sketch(dtype)));
        let unet = UNet::from_parts(backend.clone(), self.clone(), &Weights::blank())?;
        let x = backend.empty([batch, height, width, self.in_channels].into())?;
        let [times, table] = [1, batch].map(|rows| [rows, unet.time_emb_proj.outputs()].into());
        let (times, mut table) = (backend.empty(times)?, backend.empty(table)?);
        let context = backend.empty([batch, tokens, self.cross_attention_dim].into())?;
        let contexts: Vec<KeysValues<_>> = unet
            .cross_attentions()
            .map(|attention| attention.keys_values(&backend, &context))
            .collect::<Result<_>>()?;
        let mut prediction = backend.empty(x.shape().with_channels(self.out_channels))?;
        // What depends on the prompt alone is no part of an answer.
        backend.take();
        backend.rows(&Rows { table: &times, rows: 0..1, items: batch }, &mut table)?;
        let given = Given { backend: &*backend, table: &table, contexts: contexts.iter() };
        unet.run(given, &x, &mut Vec::new(), &mut prediction)?;
        Ok(backend.take())
    }
}
