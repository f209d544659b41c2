use std::ops::Range;

use super::{Backend, expect_rank, product, sum};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Shaped};

const OP: &str = "rows";

/// Copies rows of a table, a row for each item: what belongs to one step of a run goes where each step looks for it.
///
/// The items share `rows` evenly: all may have one row, or each its own. With `R` of them
/// `y[n] = table[rows.start + n R / N]`.
///
/// | tensor | shape |
/// |---|---|
/// | `table` | `[rows, W]` |
/// | `y` | `[N, W]` |
pub struct Rows<'a, B: Backend + ?Sized> {
    /// The whole table.
    pub table: &'a B::Tensor,
    /// The rows for this call; their number divides `N`.
    pub rows: Range<usize>,
    /// `N`.
    pub items: usize,
}

impl<B: Backend + ?Sized> Rows<'_, B> {
    /// The row for item `n`.
    pub fn of_item(&self, n: usize) -> usize {
        self.rows.start + n / (self.items / self.rows.len())
    }

    /// The shape of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the table is none or lacks the rows, [`Error::Value`] for rows that the items cannot share evenly.
    pub fn check(&self) -> Result<Shape> {
        let [rows, width] = expect_rank(OP, "table", self.table.shape(), "[rows, W]")?;
        if self.rows.end > rows {
            let expected = format!("at least [{}, {width}]", self.rows.end);
            return Err(Error::Shape { op: OP, tensor: "table", expected, got: self.table.shape() });
        }
        if self.rows.is_empty() || self.items == 0 || !self.items.is_multiple_of(self.rows.len()) {
            let (what, expected) = ("rows", format!("a divisor of {} items", self.items));
            return Err(Error::Value { op: OP, what, expected, got: self.rows.len().to_string() });
        }
        Ok([self.items, width].into())
    }

    /// Bytes that it reads and writes, each once.
    pub fn bytes(&self, y: &B::Tensor) -> u64 {
        let values = product([self.rows.len(), self.table.shape().channels()]);
        sum([values.saturating_mul(self.table.dtype().bytes()), y.bytes()])
    }
}
