use super::launch::Plan;
use super::product::Product;

/// Threads of a block.
const THREADS: usize = 128;

/// How the parts of a product's sums are added up: a thread for 16 bytes of the output.
pub(super) fn plan(product: &Product) -> Plan {
    let threads = product.rows * product.columns.div_ceil(16 / product.element_bytes());
    Plan {
        kernel: "split_k",
        element: product.element,
        grid: [threads.div_ceil(THREADS) as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared_memory: 0,
    }
}
