// y[n, i, j, o] = activation(sum_{u, v, c} x'[n, i s + u - p, j s + v - p, c] W[o, u, v, c]
//                            + bias[o] + shift[row of n, o] + residual[n, i, j, o])
// with stride s, padding p = (kernel - 1) / 2, and x' being x or, with stride 1, x with every pixel doubled both ways, on
// Hopper (sm_90a), in f16 and bf16: convolutions; and linear layers, which are convolutions with a kernel of one tap over an
// image one pixel high, with GEGLU too.
//
// Layout     x [N, H, W, C], rows multiples of 16 bytes, read by the map [C, W, H, N] in boxes of 64 channels of a patch of
//            128 outputs; W [O, kernel, kernel, C] as linear.cu and conv2d.cu have it, by the map [C, taps, O, 1] in boxes of 64
//            channels of one tap of COLUMNS outputs, or with GEGLU [C, 1, O, 2] and half as many of values and of gates; y
//            [N, H', W', O]; sums in f32
// Launch     grid (tiles of the output, those of a patch one after another; parts that K is cut into). 288 threads and 96 KiB
//            of dynamic shared memory for the stages, two blocks of a multiprocessor; with 256 columns 384 threads, 192
//            KiB, and one block
// Registers  docs/kernels.md; with 256 columns these are those at the start, and then 240 for a thread that multiplies
// Ideas      1. Tensor cores read both factors out of shared memory by themselves (wgmma), and tiles come there by themselves
//               (TMA, swizzled): no thread computes an address for a chunk, and no register holds one
//            2. One thread asks for tiles as far ahead as there are stages; eight warps multiply, one step's products under
//               way while the next is issued. They meet at mbarriers alone, never at one of the whole block
//            3. What a convolution reads for one tap is a box of x, moved by that tap; what is outside of the image comes as
//               zeros. So there is no im2col, no padding, and no index: a tap costs two additions. A patch is as near to square
//               as the image lets it be full, across items if these are small (src/cuda/product/hopper.rs)
//            4. With stride 2 a box takes every second pixel: TMA's own steps. Of a doubled image, what a tap shows to the even
//               outputs is a box of x, and so what it shows to the odd ones: a patch is of either kind each way, and only the
//               places where its rows are written lie apart. No pixel is doubled anywhere
//            5. 256 columns need more registers than 384 threads can share alike: those who multiply take them over from
//               those who ask (setmaxnreg). For the others 288 threads leave as many as they need
//            6. GEGLU's values and gates are the two halves of a tile, so a thread has both; the rest of the epilogue, and
//               parts of K, are those of linear.cu
// Floor      docs/kernels-floor.md
// Not done   Doubling to an odd extent (conv2d.cu does it). TMA's own im2col mode: its boxes are runs of pixels, so no patch
//            would be cut off, but its corners cannot be told from the manual alone. Multicast to clusters; a grid that stays,
//            with the epilogue under the next tile.
// Never run on a GPU.
#include "common/product_hopper.cuh"

struct Products {
  uint32_t items, height, width;  // of y
  uint32_t kernel, stride;
  uint32_t doubled;          // 1: a pixel of x is two of x' each way; 0: it is x
  uint32_t chunks;           // of 64 channels that a tap has
  uint32_t across, down;     // patches of an item
  uint32_t log_width, log_height;  // of a patch; its items are the rest of 128
  Epilogue epilogue;
};

// The patch of outputs that a block's rows are: neighbours, or if x is doubled, every second one both ways.
struct Patch {
  uint32_t item, top, left;  // of its first

  __device__ __forceinline__ Patch(const Products& op, uint32_t number) {
    left = first(op, number % op.across, op.log_width);
    top = first(op, number / op.across % op.down, op.log_height);
    item = number / op.across / op.down * (128u >> op.log_width >> op.log_height);
  }

  // Patches of even and of odd outputs take turns.
  static __device__ __forceinline__ uint32_t first(const Products& op, uint32_t number, uint32_t log) {
    return (number >> op.doubled << log << op.doubled) + (number & op.doubled);
  }

  // Where a box begins: the pixel that a tap, so far from the middle one, sees from the first output.
  static __device__ __forceinline__ int seen(const Products& op, uint32_t first, int tap) {
    return ((int)(first * op.stride) + tap) >> op.doubled;
  }

  // The output's row for a row of the tile; past the last if there is none.
  __device__ __forceinline__ uint32_t row(const Products& op, uint32_t r) const {
    const uint32_t j = left + ((r & ((1u << op.log_width) - 1)) << op.doubled);
    const uint32_t i = top + ((r >> op.log_width & ((1u << op.log_height) - 1)) << op.doubled);
    const uint32_t n = item + (r >> op.log_width >> op.log_height);
    return i < op.height && j < op.width && n < op.items ? (n * op.height + i) * op.width + j : ~0u;
  }
};

template <class E, int COLUMNS>
__device__ __forceinline__ void product(const TensorMap& x, const TensorMap& weight, const Products& op) {
  using Tiles = Pipeline<COLUMNS>;
  DYN_SMEM(stages, 1024);
  SHARED(uint64_t, barriers, [2 * Tiles::STAGES]);
  const Tiles tiles = {shared_address(stages), shared_address(barriers), shared_address(barriers + Tiles::STAGES)};
  tiles.open();

  const uint32_t outputs = op.epilogue.gated() ? COLUMNS / 2 : COLUMNS;
  const uint32_t across = (op.epilogue.columns + outputs - 1) / outputs, column = blockIdx.x % across * outputs;
  const Patch patch(op, blockIdx.x / across);
  const int all = op.kernel * op.kernel * op.chunks, first = all * blockIdx.y / gridDim.y;
  const int steps = all * (blockIdx.y + 1) / gridDim.y - first;

  if (threadIdx.x >= Tiles::MULTIPLIERS) {
    if constexpr (Tiles::ALONE) shrink_registers<24>();
    if (threadIdx.x > Tiles::MULTIPLIERS) return;
    const int padding = (op.kernel - 1) / 2;
    tiles.ask(steps, [&](int step, uint32_t stage, uint32_t full) {
      const int tap = (first + step) / op.chunks, channel = (first + step) % op.chunks * Tiles::DEPTH;
      const int u = tap / op.kernel - padding, v = tap % op.kernel - padding;
      const int top = Patch::seen(op, patch.top, u), left = Patch::seen(op, patch.left, v);
      tensor_copy(stage, x, {channel, left, top, (int)patch.item}, full);
      tensor_copy(stage + Tiles::A_BYTES, weight, {channel, tap, (int)column, 0}, full);
    });
    return;
  }
  if constexpr (Tiles::ALONE) grow_registers<240>();
  const int warp = threadIdx.x / 32;
  float sum[COLUMNS / 8][4];
  tiles.template multiply<E>(sum, warp / 4, steps);
  // The stages are free once both warpgroups are done with them.
  named_barrier<1, Tiles::MULTIPLIERS>();
  float* slice = reinterpret_cast<float*>(stages) + warp * SLICE<COLUMNS / 8>;
  write_rows<E>(op.epilogue, blockIdx.y, slice, sum, column, 8, COLUMNS / 2,
                [&](int r) { return patch.row(op, warp * 16 + r); });
}

#define PRODUCT(E, COLUMNS)                                                                                      \
  KERNEL void __launch_bounds__(Pipeline<COLUMNS>::THREADS, Pipeline<COLUMNS>::RESIDENT)                          \
      product_hopper_128x##COLUMNS##_##E(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weight, \
                                         const __grid_constant__ Products op) {                                  \
    product<E, COLUMNS>(x, weight, op);                                                                          \
  }                                                                                                              \
  EXPORT_KERNEL(product_hopper_128x##COLUMNS##_##E)
#define PRODUCTS(E) PRODUCT(E, 64) PRODUCT(E, 128) PRODUCT(E, 256)
PRODUCTS(f16)
PRODUCTS(bf16)
