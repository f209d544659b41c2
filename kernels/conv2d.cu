// y[n, i, j, o] = activation(sum_{u, v, c} x'[n, i s + u - p, j s + v - p, c] W[o, u, v, c]
//                            + bias[o] + shift[row of n, o] + residual[n, i, j, o])
// with stride s, padding p = (kernel - 1) / 2, and x' being x or x with every pixel doubled both ways.
//
// Layout     x [N, H, W, C] as it lies; W [O, kernel, kernel, C], each tap's channels filled up with zeros to whole chunks of
//            16 bytes when it was packed; y [N, H', W', O]; sums in f32. If rows of these are no whole chunks, or do not begin
//            at multiples of 16 bytes, elements go one by one.
// Launch     as linear.cu: a row of the product is a pixel of y. A convolution that is a product of matrices (one tap, stride
//            1, no upsampling) is launched as one.
// Registers  docs/kernels.md. Two blocks of a multiprocessor at least, but one of conv2d_128x128_f32.
// Ideas      1. those of linear.cu, on the same tiles: the im2col matrix [pixels, taps x channels] is a way to read x
//            2. A thread keeps where its pixels' taps begin, and finds them anew only when its chunk enters another tap:
//               every 10 stages with 320 channels. In between, a copy costs an addition
//            3. Padding is `cp.async` of no bytes, which writes zeros; upsampling is a shift of the tap's coordinates
//            4. K runs over taps and channels together, so few channels (4 in conv_in) waste little: a stage holds four
//               taps of them
#include "common/product.cuh"

struct Conv2d {
  const void* x;
  const void* weight;
  uint32_t height, width, channels;  // of x
  uint32_t seen_height, seen_width;  // of x', which the kernel moves over: x, or x upsampled
  uint32_t upsample;                 // 1: a pixel of x is two of x' each way; 0: it is x
  uint32_t y_height, y_width;
  uint32_t kernel, stride;
  uint32_t tap;    // channels of a tap of the weight: `channels`, rounded up to whole chunks
  uint32_t whole;  // pixels of x are whole chunks, and begin at multiples of 16 bytes
  Epilogue epilogue;
};

// The tiles of the im2col matrix, which is nowhere: a row for each pixel of y, and along it for each tap of the kernel the
// channels of the pixel that it sees.
template <class E, int ROWS, int THREADS> struct PixelTiles {
  using Mine = Share<ROWS, THREADS>;
  static constexpr uint32_t PADDING = ~0u;
  const Conv2d& op;
  uint32_t item[Mine::COPIES];       // the first pixel of x that belongs to the item of this row
  int top[Mine::COPIES], left[Mine::COPIES];  // where the kernel's first tap is in x'
  uint32_t seen[Mine::COPIES];       // where the pixel that the current tap sees begins in x, or PADDING
  uint32_t u, v, channel;            // the current tap, and this thread's place in it

  __device__ __forceinline__ PixelTiles(const Conv2d& op, uint32_t row, int step) : op(op) {
    const uint32_t k = step * DEPTH<E> + Mine::chunk() * Vector<E>::LANES;
    u = k / op.tap / op.kernel, v = k / op.tap % op.kernel, channel = k % op.tap;
#pragma unroll
    for (int copy = 0; copy < Mine::COPIES; copy++) {
      const uint32_t pixel = row + Mine::row() + copy * Mine::BETWEEN, line = pixel / op.y_width;
      const int padding = (op.kernel - 1) / 2;
      item[copy] = line / op.y_height * op.height * op.width;
      // Of a pixel past the last, no tap is inside.
      top[copy] = pixel < op.epilogue.rows ? (int)(line % op.y_height * op.stride) - padding : -(int)op.kernel;
      left[copy] = (int)(pixel % op.y_width * op.stride) - padding;
    }
    look();
  }

  // Finds what the current tap sees.
  __device__ __forceinline__ void look() {
#pragma unroll
    for (int copy = 0; copy < Mine::COPIES; copy++) {
      const uint32_t i = top[copy] + (int)u, j = left[copy] + (int)v;
      const bool inside = u < op.kernel && i < op.seen_height && j < op.seen_width;
      const uint32_t pixel = item[copy] + (i >> op.upsample) * op.width + (j >> op.upsample);
      seen[copy] = inside ? pixel * op.channels : PADDING;
    }
  }

  __device__ __forceinline__ void next(unsigned char* tile) {
#pragma unroll
    for (int copy = 0; copy < Mine::COPIES; copy++) {
      const bool inside = seen[copy] != PADDING;
      const E* chunk = (const E*)op.x + (inside ? (uint64_t)seen[copy] + channel : 0);
      copy_chunk(Mine::place(tile, copy), chunk, inside ? (int)op.channels - (int)channel : 0, op.whole);
    }
    channel += DEPTH<E>;
    if (channel < op.tap) return;
    do {
      channel -= op.tap;
      if (++v == op.kernel) v = 0, u++;
    } while (channel >= op.tap);
    look();
  }
};

template <class E, int ROWS, int COLUMNS> __device__ __forceinline__ void conv2d(const Conv2d& op) {
  using Block = Sums<E, ROWS, COLUMNS>;
  DYN_SMEM(stages, 128);
  const uint32_t depth = op.kernel * op.kernel * op.tap;
  const Place at = place<E, ROWS, COLUMNS>(op.epilogue, depth);
  PixelTiles<E, ROWS, Block::THREADS> a(op, at.row, at.step);
  auto b = weight_tiles<E, COLUMNS, Block::THREADS>(op.weight, at.column, op.epilogue, depth, at.step);
  Block sums;
  multiply(sums, a, b, at.steps, stages);
  sums.write(op.epilogue, at.split, stages, at.row, at.column);
}

#define CONV2D(E, ROWS, COLUMNS)                                                                            \
  KERNEL void __launch_bounds__(Sums<E, ROWS, COLUMNS>::THREADS, Sums<E, ROWS, COLUMNS>::RESIDENT)           \
      conv2d_##ROWS##x##COLUMNS##_##E(const __grid_constant__ Conv2d op) {                                  \
    conv2d<E, ROWS, COLUMNS>(op);                                                                           \
  }                                                                                                         \
  EXPORT_KERNEL(conv2d_##ROWS##x##COLUMNS##_##E)
#define CONV2DS(E) CONV2D(E, 128, 128) CONV2D(E, 128, 64) CONV2D(E, 64, 64)
FOR_EACH_ELEMENT(CONV2DS)
