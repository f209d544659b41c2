// What the lanes of a warp do together. The last to arrive does it for all. Shuffles and tensor-core instructions order
// execution, not memory: only __syncwarp does that.
#include "machine.h"

namespace simt {

void arrive(const char* what, unsigned mask, void* argument, WarpOperation operation, Site site) {
  Thread* thread = running();
  Warp& warp = machine->warps[thread->warp];
  const int lanes = machine->thread_count - thread->warp * WARP;
  if (lanes < WARP) mask &= (1u << lanes) - 1;  // a full mask means what there is
  if (!(mask >> thread->lane & 1)) fail(site, "%s: lane %d is not in its own mask %08x", what, thread->lane, mask);
  if (mask & ~warp.alive) fail(site, "%s: mask %08x names lanes that have exited (%08x live)", what, mask, warp.alive);
  if (warp.arrived && (strcmp(warp.what, what) || warp.wanted != mask)) {
    fail(site, "warp divergence: lane %d is in %s (mask %08x), others wait in %s (mask %08x)", thread->lane, what, mask,
         warp.what, warp.wanted);
  }
  warp.what = what;
  warp.wanted = mask;
  warp.arguments[thread->lane] = argument;
  warp.arrived |= 1u << thread->lane;
  warp.waiting[warp.waiters++] = thread;
  thread->state = State::Waiting;
  if (warp.arrived == mask) {
    operation(warp.arguments, mask);
    for (int i = 0; i < warp.waiters; i++) make_ready(warp.waiting[i]);
    warp.waiters = 0;
    warp.arrived = 0;
  }
  wait_for(what, site);
}

CALLED_BY_KERNEL void sync_warp(unsigned mask) {
  const auto synchronise = [](void** threads, unsigned mask) {
    for (int lane = 0; lane < WARP; lane++) {
      if (!(mask >> lane & 1)) continue;
      Thread* thread = (Thread*)threads[lane];
      machine->warps[thread->warp].synced[lane] = thread->clock++;
    }
  };
  arrive("__syncwarp", mask, running(), synchronise, __builtin_return_address(0));
}

// ---- shuffles ----

struct Shuffle {
  uint64_t in, out;
  int from;
};

CALLED_BY_KERNEL uint64_t shuffle(const char* what, unsigned mask, uint64_t value, int from) {
  const auto exchange = [](void** lanes, unsigned mask) {
    for (int lane = 0; lane < WARP; lane++) {
      if (!(mask >> lane & 1)) continue;
      Shuffle* shuffle = (Shuffle*)lanes[lane];
      if (!(mask >> shuffle->from & 1)) {
        fail(nullptr, "shuffle: lane %d reads lane %d, which is not in mask %08x", lane, shuffle->from, mask);
      }
      shuffle->out = ((Shuffle*)lanes[shuffle->from])->in;
    }
  };
  Shuffle mine = {value, 0, from};
  arrive(what, mask, &mine, exchange, __builtin_return_address(0));
  return mine.out;
}

// ---- tensor cores ----

struct MatrixLoad {
  uint32_t* r;
  int matrices;
  uint32_t row;
  bool transposed;
  Thread* thread;
  Site site;
};

static void load_matrices(void** lanes, unsigned) {
  const MatrixLoad* first = (const MatrixLoad*)lanes[0];
  uint16_t m[4][8][8];
  for (int row = 0; row < first->matrices * 8; row++) {
    const MatrixLoad* load = (const MatrixLoad*)lanes[row];
    if (load->row % 16) fail(load->site, "ldmatrix: row address %u of lane %d is not aligned to 16", load->row, row);
    const unsigned char* p = machine->arena.base + load->row;
    ThreadView* last = current;
    current = load->thread;
    check(p, 16, Access::Read, load->site);
    current = last;
    memcpy(m[row / 8][row % 8], p, 16);
  }
  for (int lane = 0; lane < WARP; lane++) {
    const MatrixLoad* load = (const MatrixLoad*)lanes[lane];
    const int a = lane / 4, b = 2 * (lane % 4);
    for (int i = 0; i < first->matrices; i++) {
      const uint32_t low = first->transposed ? m[i][b][a] : m[i][a][b];
      const uint32_t high = first->transposed ? m[i][b + 1][a] : m[i][a][b + 1];
      load->r[i] = low | high << 16;
    }
  }
}

CALLED_BY_KERNEL void ldmatrix(uint32_t* r, int matrices, uint32_t row, bool transposed) {
  const Site site = __builtin_return_address(0);
  MatrixLoad mine = {r, matrices, row, transposed, running(), site};
  arrive(matrices == 4 ? "ldmatrix.x4" : "ldmatrix.x2", ALL, &mine, load_matrices, site);
}

struct Product {
  float* d;
  const uint32_t *a, *b;
  float (*to_f32)(uint16_t);
};

// The fragments are those of kernels/common/mma.cuh.
static void multiply(void** lanes, unsigned) {
  float a[16][16], b[16][8];
  const auto to_f32 = ((const Product*)lanes[0])->to_f32;
  for (int lane = 0; lane < WARP; lane++) {
    const Product* product = (const Product*)lanes[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
      float* pair = &a[g + 8 * (i % 2)][2 * t + 8 * (i / 2)];
      pair[0] = to_f32(product->a[i] & 0xffff);
      pair[1] = to_f32(product->a[i] >> 16);
    }
    for (int i = 0; i < 2; i++) {
      b[2 * t + 8 * i][g] = to_f32(product->b[i] & 0xffff);
      b[2 * t + 8 * i + 1][g] = to_f32(product->b[i] >> 16);
    }
  }
  float sum[16][8] = {};
  for (int row = 0; row < 16; row++) {
    for (int k = 0; k < 16; k++) {
      for (int column = 0; column < 8; column++) sum[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < WARP; lane++) {
    float* d = ((const Product*)lanes[lane])->d;
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) d[i] += sum[g + 8 * (i / 2)][2 * t + i % 2];
  }
}

CALLED_BY_KERNEL void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, float (*to_f32)(uint16_t)) {
  Product mine = {d, a, b, to_f32};
  arrive("mma.m16n8k16", ALL, &mine, multiply, __builtin_return_address(0));
}

}  // namespace simt
