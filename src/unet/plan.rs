use std::sync::Arc;

use super::blocks::Given;
use super::{Conditioning, Times, UNet, misshapen, refuse};
use crate::error::Result;
use crate::nn::KeysValues;
use crate::ops::{Backend, Rows};
use crate::pool::Usage;
use crate::tensor::{Shape, Shaped};

/// A UNet made ready for inputs of one shape: it has rehearsed them, and owns all memory that they take, so that running
/// allocates nothing. A model can have any number of plans, in any number of threads.
pub struct Plan<B: Backend> {
    /// What a device keeps of a run. Dropped before what it uses.
    tape: B::Tape,
    unet: Arc<UNet<B>>,
    /// The model's device, with memory of the plan's own.
    backend: B,
    /// That of the input.
    shape: Shape,
    tokens: usize,
    workspace: Usage,
    flops: u64,
    kernels: u64,
    /// What the time of the current step adds, a row for each item: in one place, whatever the step.
    table: B::Tensor,
    /// Room for what the way up wants of the way down.
    skips: Vec<B::Tensor>,
    prediction: B::Tensor,
}

impl<B: Backend> UNet<B> {
    /// Makes ready for inputs of `batch` items `height` by `width`, looking into contexts of so many `tokens`.
    ///
    /// # Errors
    /// [`Error::Value`](crate::error::Error::Value) for no items, pixels or tokens, and too little memory.
    pub fn plan(
        self: &Arc<Self>,
        batch: usize,
        [height, width]: [usize; 2],
        tokens: usize,
    ) -> Result<Plan<B>> {
        for (what, number) in [("batch", batch), ("height", height), ("width", width), ("tokens", tokens)] {
            if number == 0 {
                return Err(refuse(what, "at least 1", 0));
            }
        }
        // What a run is given has memory elsewhere, so it is counted elsewhere.
        let (rehearsal, elsewhere) = (self.backend.rehearsal(), self.backend.rehearsal());
        let shape = [batch, height, width, self.config.in_channels].into();
        let x = elsewhere.empty(shape)?;
        let context = elsewhere.empty([batch, tokens, self.config.cross_attention_dim].into())?;
        let contexts: Vec<KeysValues<B>> = self
            .cross_attentions()
            .map(|attention| attention.keys_values(&elsewhere, &context))
            .collect::<Result<_>>()?;

        let out = shape.with_channels(self.config.out_channels);
        let times = [batch, self.time_emb_proj.outputs()].into();
        let (table, mut prediction) = (rehearsal.empty(times)?, rehearsal.empty(out)?);
        let mut skips = Vec::new();
        // A block that was new in one pass may be a better fit for something earlier in the next. The last pass has shown
        // that what there is suffices.
        let (flops, kernels) = loop {
            let before = (rehearsal.usage().allocations, rehearsal.flops(), rehearsal.launches());
            let given = Given { backend: &rehearsal, table: &table, contexts: contexts.iter() };
            self.run(given, &x, &mut skips, &mut prediction)?;
            if rehearsal.usage().allocations == before.0 {
                break (rehearsal.flops() - before.1, rehearsal.launches() - before.2);
            }
        };
        let backend = rehearsal.stocked()?;
        let (table, prediction) = (backend.empty(times)?, backend.empty(out)?);
        let (unet, workspace) = (self.clone(), rehearsal.usage());
        let tape = B::Tape::default();
        Ok(Plan { tape, unet, backend, shape, tokens, workspace, flops, kernels, table, skips, prediction })
    }
}

impl<B: Backend> Plan<B> {
    /// The memory that running takes, beside the model, the input and what was prepared: it is held already. A CPU's threads
    /// have some scratch memory too, up to 4 MB each.
    pub fn workspace(&self) -> Usage {
        self.workspace
    }

    /// Floating-point operations of a run, a multiply-add counted as two; 0 if the backend keeps no account.
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// The kernels of a run; 0 if the backend launches none.
    pub fn kernels(&self) -> u64 {
        self.kernels
    }

    /// How often the runs so far have turned to the device: once for each kernel, or once for all that were replayed.
    pub fn launches(&self) -> u64 {
        self.backend.launches()
    }

    /// The shape of the input, `[N, H, W, in_channels]`.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Predicts from the noisy input `x` what the model was trained to predict, noise or velocity,
    /// `[N, H, W, out_channels]`, at one of the steps of `times`.
    ///
    /// A GPU keeps what the first run launches, as a graph, and replays it while `x` and `conditioning` are the same tensors;
    /// what they hold may change.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::error::Error::Shape) for an `x` of another shape, [`Error::Value`](crate::error::Error::Value)
    /// for a step that there is not, for what was prepared for another batch, so many tokens, or by another model, and for
    /// `times` that hold the second conditioning of another `conditioning`.
    pub fn forward(
        &mut self,
        x: &B::Tensor,
        times: &Times<B>,
        step: usize,
        conditioning: &Conditioning<B>,
    ) -> Result<&B::Tensor> {
        self.check(x, times, step, conditioning)?;
        let rows = step * times.rows..(step + 1) * times.rows;
        let rows = Rows { table: &times.table, rows, items: self.shape[0] };
        self.backend.rows(&rows, &mut self.table)?;
        let contexts = conditioning.contexts.iter();
        let inputs = std::iter::once(x).chain(contexts.clone().map(KeysValues::tensor));
        self.backend.repeat(&mut self.tape, inputs, |backend| {
            let given = Given { backend, table: &self.table, contexts };
            self.unet.run(given, x, &mut self.skips, &mut self.prediction)
        })?;
        Ok(&self.prediction)
    }

    fn check(
        &self,
        x: &B::Tensor,
        times: &Times<B>,
        step: usize,
        conditioning: &Conditioning<B>,
    ) -> Result<()> {
        if x.shape() != self.shape {
            return Err(misshapen("x", self.shape.to_string(), x.shape()));
        }
        let batch = self.shape[0];
        let prepared =
            [("conditioning", conditioning.batch, &conditioning.model), ("times", times.batch, &times.model)];
        for (what, prepared_for, model) in prepared {
            if prepared_for != batch {
                return Err(refuse(what, format!("prepared for a batch of {batch}"), prepared_for));
            }
            if !Arc::ptr_eq(model, &self.unet.identity) {
                return Err(refuse(what, "prepared by this model", "another model's"));
            }
        }
        if times.conditioning.as_ref().is_some_and(|of| !Arc::ptr_eq(of, &conditioning.identity)) {
            return Err(refuse("times", "of this conditioning, whose text_embeds they hold", "another's"));
        }
        if conditioning.tokens != self.tokens {
            return Err(refuse("tokens", self.tokens.to_string(), conditioning.tokens));
        }
        if step >= times.steps {
            return Err(refuse("step", format!("below {}", times.steps), step));
        }
        Ok(())
    }
}
