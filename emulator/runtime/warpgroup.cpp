// wgmma: products of a warpgroup, four warps, with operands in shared memory. They are computed at any time between their
// issue and the wait for them; until then the registers of their sums hold not a number, and nobody may write to operands.
#include "machine.h"

namespace simt {

constexpr int ROWS = 64, DEPTH = 16;
constexpr uint32_t POISONED_REGISTER = 0xffffffff;

void begin_warpgroups() {
  for (Warpgroup& group : machine->warpgroups) {
    group.waiting.clear();
    group.products.clear();
    group.sums.clear();
    group.group = 0;
    group.fenced = false;
  }
}

bool warpgroups_are_done() {
  for (const Warpgroup& group : machine->warpgroups) {
    if (!group.products.empty() || !group.waiting.empty()) return false;
  }
  return true;
}

using WarpgroupOperation = void (*)(Warpgroup& group, Site site);

// The last thread of a warpgroup to arrive does it for all.
static void arrive(const char* what, void* argument, WarpgroupOperation operation, Site site) {
  Thread* thread = running();
  if (machine->capability != 90) fail(site, "%s: needs compute capability 9.0, this is %u", what, machine->capability);
  const int number = thread->number / WARPGROUP;
  if ((number + 1) * WARPGROUP > machine->thread_count) fail(site, "%s: the warpgroup is not whole", what);
  Warpgroup& group = machine->warpgroups[number];
  if (!group.waiting.empty() && strcmp(group.what, what)) {
    fail(site, "warpgroup divergence: thread %d is in %s, others wait in %s", thread->number, what, group.what);
  }
  group.what = what;
  group.arguments[thread->number % WARPGROUP] = argument;
  group.waiting.push_back(thread);
  thread->state = State::Waiting;
  if (group.waiting.size() == WARPGROUP) {
    operation(group, site);
    for (Thread* waiting : group.waiting) make_ready(waiting);
    group.waiting.clear();
  }
  wait_for(what, site);
}

// ---- operands ----

// What a descriptor says (PTX ISA, "Matrix Descriptor Format").
struct Descriptor {
  uint32_t start, leading, stride, base_offset, swizzle;

  explicit Descriptor(uint64_t bits)
      : start((bits & 0x3fff) << 4),
        leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4),
        base_offset(bits >> 49 & 7),
        swizzle(bits >> 62) {}
};

// Calls `chunk` with the shared address of each 16 bytes of an operand of `rows` (of M or N) by 16 (of K): eight values
// along K from k of row r on, or if `transposed`, eight along the rows from r of one k on. With the swizzle of 128 bytes:
//
//   K-major   atoms of 8 rows by 64 of K, a row's 128 bytes together; `stride` from 8 rows to the next 8
//   MN-major  atoms of 64 rows by 8 of K, the 64 of one k together; `stride` from 8 of K to the next 8, `leading` from 64 rows
//             to the next 64
template <class Chunk>
static void for_each_chunk(uint64_t bits, int rows, bool transposed, Site site, Chunk chunk) {
  const Descriptor operand(bits);
  if (operand.swizzle != 1) fail(site, "wgmma: a descriptor with swizzle mode %u; 128 bytes alone are emulated", operand.swizzle);
  if (operand.base_offset != 0) fail(site, "wgmma: a descriptor with base offset %u, which is not emulated", operand.base_offset);
  // Along the row of the first atom alone may an operand begin within one.
  if (operand.start % 1024 >= 128) fail(site, "wgmma: a descriptor that starts at shared memory + %u, within an atom", operand.start);
  if (operand.stride % 1024) fail(site, "wgmma: a descriptor with a stride of %u bytes between atoms of 1024", operand.stride);
  if (transposed && rows > 64 && operand.leading % 1024) {
    fail(site, "wgmma: a descriptor with %u bytes between atoms of 1024", operand.leading);
  }
  const int outer = transposed ? DEPTH : rows, inner = transposed ? rows : DEPTH;
  for (int o = 0; o < outer; o++) {
    for (int i = 0; i < inner; i += 8) {
      uint32_t at = operand.start + o / 8 * operand.stride + o % 8 * 128;
      at += transposed ? i / 64 * operand.leading + i % 64 * 2 : i * 2;
      at ^= at / 128 % 8 * 16;
      chunk(transposed ? i : o, transposed ? o : i, at);
    }
  }
}

// Reads an operand into [K][rows].
static void read(const WarpgroupProduct& product, uint64_t bits, int rows, bool transposed, float (*to)[256]) {
  for_each_chunk(bits, rows, transposed, nullptr, [&](int row, int k, uint32_t at) {
    uint16_t values[8];
    memcpy(values, machine->arena.base + at, sizeof values);
    for (int i = 0; i < 8; i++) to[transposed ? k : k + i][transposed ? row + i : row] = product.to_f32(values[i]);
  });
}

// ---- products ----

static void compute(Warpgroup& group, WarpgroupProduct& product) {
  static thread_local float a[DEPTH][256], b[DEPTH][256];
  WarpgroupSums& sums = group.sums[product.sums];
  if (!product.a_in_registers) read(product, product.a, ROWS, false, a);
  read(product, product.b, sums.columns, product.b_transposed, b);
  for (int row = 0; row < ROWS; row++) {
    float sum[256] = {};
    for (int k = 0; k < DEPTH; k++) {
      const float x = product.a_in_registers ? product.registers[row][k] : a[k][row];
      for (int column = 0; column < sums.columns; column += 8) {
        for (int i = 0; i < 8; i++) sum[column + i] += x * b[k][column + i];
      }
    }
    float* total = &sums.sum[size_t(row) * sums.columns];
    for (int column = 0; column < sums.columns; column++) {
      total[column] = product.accumulates ? total[column] + sum[column] : sum[column];
    }
  }
  product.done = true;
}

// Calls `value` for each register of sums: thread, register, row, column.
template <class Value> static void for_each_register(int columns, Value value) {
  for (int thread = 0; thread < WARPGROUP; thread++) {
    const int warp = thread / WARP, g = thread % WARP / 4, t = thread % 4;
    for (int i = 0; i < columns / 2; i++) {
      value(thread, i, 16 * warp + g + 8 * (i % 4 / 2), i / 4 * 8 + 2 * t + i % 2);
    }
  }
}

struct ProductArgument {
  float* d;
  int columns;
  const uint32_t* a_registers;
  uint64_t a, b;
  bool accumulates, b_transposed;
  float (*to_f32)(uint16_t);
};

// Sums that are under way already, or the threads' own registers, taken from them.
static size_t take_sums(Warpgroup& group, Site site) {
  const auto argument = [&](int thread) { return (const ProductArgument*)group.arguments[thread]; };
  for (size_t i = 0; i < group.sums.size(); i++) {
    if (group.sums[i].registers[0] == argument(0)->d) return i;
  }
  if (!group.fenced) fail(site, "wgmma: its registers were the threads' own since the last wgmma.fence");
  WarpgroupSums sums = {{}, argument(0)->columns, {}, 0, false};
  sums.sum.resize(size_t(ROWS) * sums.columns);
  for (int thread = 0; thread < WARPGROUP; thread++) sums.registers[thread] = argument(thread)->d;
  for_each_register(sums.columns, [&](int thread, int i, int row, int column) {
    sums.sum[size_t(row) * sums.columns + column] = sums.registers[thread][i];
    sums.registers[thread][i] = bit_cast<float>(POISONED_REGISTER);
  });
  group.sums.push_back(std::move(sums));
  return group.sums.size() - 1;
}

static void issue(Warpgroup& group, Site site) {
  const ProductArgument& first = *(const ProductArgument*)group.arguments[0];
  WarpgroupProduct product = {first.a, first.b, first.a_registers != nullptr, first.b_transposed, false, {}, first.to_f32,
                              take_sums(group, site), first.accumulates, group.group};
  for (int thread = 0; thread < WARPGROUP; thread++) {
    const ProductArgument& argument = *(const ProductArgument*)group.arguments[thread];
    const bool same_a = product.a_in_registers || argument.a == first.a;
    if (!same_a || argument.b != first.b) fail(site, "wgmma: descriptors differ between the threads of a warpgroup");
    if (!product.a_in_registers) continue;
    const int warp = thread / WARP, g = thread % WARP / 4, t = thread % 4;
    for (int i = 0; i < 4; i++) {
      float* pair = &product.registers[16 * warp + g + 8 * (i % 2)][2 * t + 8 * (i / 2)];
      pair[0] = first.to_f32(argument.a_registers[i] & 0xffff);
      pair[1] = first.to_f32(argument.a_registers[i] >> 16);
    }
  }
  // Any thread that goes on must be ordered with who wrote the operands.
  ThreadView* last = current;
  current = group.waiting[draw() % WARPGROUP];
  const auto begin_read = [&](int, int, uint32_t at) {
    check(machine->arena.base + at, 16, Access::AsyncRead, site);
  };
  if (!product.a_in_registers) for_each_chunk(product.a, ROWS, false, site, begin_read);
  for_each_chunk(product.b, first.columns, product.b_transposed, site, begin_read);
  current = last;
  group.sums[product.sums].group = group.group;
  group.products.push_back(product);
  if (draw() % 2 == 0) {
    for (WarpgroupProduct& earlier : group.products) {
      if (!earlier.done) compute(group, earlier);
    }
  }
}

CALLED_BY_KERNEL void wgmma(float* d, int columns, const uint32_t* a_registers, uint64_t a, uint64_t b, bool accumulates,
                            bool b_transposed, float (*to_f32)(uint16_t)) {
  ProductArgument mine = {d, columns, a_registers, a, b, accumulates, b_transposed, to_f32};
  arrive("wgmma.mma_async", &mine, issue, __builtin_return_address(0));
}

CALLED_BY_KERNEL void wgmma_fence() {
  arrive("wgmma.fence", nullptr, [](Warpgroup& group, Site) { group.fenced = true; }, __builtin_return_address(0));
}

CALLED_BY_KERNEL void wgmma_commit() {
  arrive("wgmma.commit_group", nullptr, [](Warpgroup& group, Site) { group.group++; }, __builtin_return_address(0));
}

// Gives sums back that no product under way adds to.
static void deliver(WarpgroupSums& sums, Site site) {
  for_each_register(sums.columns, [&](int thread, int i, int row, int column) {
    float& value = sums.registers[thread][i];
    if (bit_cast<uint32_t>(value) != POISONED_REGISTER) {
      fail(site, "wgmma: thread %d wrote to a register of its sums while it was under way", thread);
    }
    value = sums.sum[size_t(row) * sums.columns + column];
  });
  sums.delivered = true;
}

// Until a warp has waited for a product, it may still be reading; which warp tells of it first is open.
static void end_reads(const Warpgroup& group, const WarpgroupProduct& product) {
  const Thread* by = &machine->threads[(&group - machine->warpgroups) * WARPGROUP + draw() % 4 * WARP];
  const auto end = [&](int, int, uint32_t at) { end_async_read(at, 16, by); };
  if (!product.a_in_registers) for_each_chunk(product.a, ROWS, false, nullptr, end);
  for_each_chunk(product.b, group.sums[product.sums].columns, product.b_transposed, nullptr, end);
}

static void finish(Warpgroup& group, Site site) {
  const int end = group.group - *(const int*)group.arguments[0];
  std::vector<WarpgroupProduct> left;
  for (WarpgroupProduct& product : group.products) {
    if (product.group >= end) {
      left.push_back(product);
      continue;
    }
    if (!product.done) compute(group, product);
    end_reads(group, product);
  }
  std::vector<WarpgroupSums> sums_left;
  for (size_t i = 0; i < group.sums.size(); i++) {
    if (group.sums[i].group < end) {
      deliver(group.sums[i], site);
      group.fenced = false;
      continue;
    }
    for (WarpgroupProduct& product : left) {
      if (product.sums == i) product.sums = sums_left.size();
    }
    sums_left.push_back(std::move(group.sums[i]));
  }
  group.products = std::move(left);
  group.sums = std::move(sums_left);
  // The lanes of a warp return together, and know that its reads have ended.
  for (Thread* thread : group.waiting) {
    if (thread->lane == 0) machine->warps[thread->warp].synced[0] = thread->clock++;
  }
}

CALLED_BY_KERNEL void wgmma_wait(int groups_left) {
  arrive("wgmma.wait_group", &groups_left, finish, __builtin_return_address(0));
}

CALLED_BY_KERNEL void set_registers() {
  arrive("setmaxnreg", nullptr, [](Warpgroup&, Site) {}, __builtin_return_address(0));
}

}  // namespace simt
