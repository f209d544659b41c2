// cp.async.bulk.tensor: boxes of tensors in device memory to shared memory. They land at any time up to when nobody can go
// on without them, and report to an mbarrier.
#include "machine.h"

namespace simt {

constexpr int SWIZZLE_ROW = 128;

// How many elements of a box land.
static size_t taken(const TensorMap& map, int dimension) {
  return (map.box[dimension] + map.steps[dimension] - 1) / map.steps[dimension];
}

static size_t box_bytes(const TensorMap& map) {
  size_t bytes = map.element_bytes;
  for (int i = 0; i < map.rank; i++) bytes *= taken(map, i);
  return bytes;
}

// Calls `row` for each innermost row of the box: where it lies in the box, and its first element in the tensor.
template <class Row> static void for_each_row(const TensorMap& map, const int32_t* at, Row row) {
  const size_t row_bytes = size_t(map.box[0]) * map.element_bytes;
  const size_t rows = box_bytes(map) / row_bytes;
  for (size_t i = 0; i < rows; i++) {
    const unsigned char* from = map.address;
    bool inside = true;
    size_t left = i;
    for (int d = 1; d < map.rank; d++) {
      const int64_t place = int64_t(at[d]) + int64_t(left % taken(map, d)) * map.steps[d];
      left /= taken(map, d);
      inside &= place >= 0 && place < int64_t(map.extents[d]);
      from += place * int64_t(map.strides[d - 1]);
    }
    const int64_t first = std::max<int64_t>(at[0], 0);
    const int64_t end = std::min<int64_t>(int64_t(at[0]) + map.box[0], map.extents[0]);
    const size_t present = inside && first < end ? size_t(end - first) * map.element_bytes : 0;
    row(i * row_bytes, size_t(first - at[0]) * map.element_bytes, from + first * map.element_bytes, present);
  }
}

CALLED_BY_KERNEL void tensor_copy(uint32_t to, const void* encoded, const int32_t* at, int rank, uint32_t barrier) {
  const Site site = __builtin_return_address(0);
  Thread* thread = running();
  TensorCopy copy = {to, barrier, {}, {}, thread, thread->clock, {}, draw() % 2 == 0};
  memcpy(&copy.map, encoded, sizeof copy.map);
  const TensorMap& map = copy.map;
  if (map.magic != TensorMap::MAGIC) fail(site, "cp.async.bulk.tensor: not a tensor map");
  if (map.rank != rank) fail(site, "cp.async.bulk.tensor: %d coordinates for a tensor of rank %d", rank, map.rank);
  if (to % 128) fail(site, "cp.async.bulk.tensor: shared address %u is not aligned to 128", to);
  const auto reports_to = machine->mbarriers.find(barrier);
  if (reports_to == machine->mbarriers.end()) {
    fail(site, "cp.async.bulk.tensor: no mbarrier at shared memory + %u", barrier);
  }
  if (!reports_to->second.fenced) {
    fail(site, "cp.async.bulk.tensor: the mbarrier at shared memory + %u was made without fence.mbarrier_init", barrier);
  }
  memcpy(copy.at, at, rank * sizeof *at);
  for_each_row(map, at, [&](size_t, size_t, const unsigned char* from, size_t present) {
    if (present) check(from, present, Access::Read, site);
  });
  check(machine->arena.base + to, box_bytes(map), Access::Write, site);
  mark_copy_in_flight(to, box_bytes(map));
  add_clocks(thread, copy.known);
  thread->clock++;
  machine->tensor_copies.push_back(std::move(copy));
  maybe_yield();
}

static void land(const TensorCopy& copy) {
  const TensorMap& map = copy.map;
  const size_t row_bytes = size_t(map.box[0]) * map.element_bytes;
  for_each_row(map, copy.at, [&](size_t row, size_t skipped, const unsigned char* from, size_t present) {
    std::vector<unsigned char> values(row_bytes);
    if (present) memcpy(values.data() + skipped, from, present);
    for (size_t i = 0; i < row_bytes; i += 16) {
      uint32_t to = copy.to + row + i;
      if (map.swizzled) to ^= to / SWIZZLE_ROW % 8 * 16;
      memcpy(machine->arena.base + to, values.data() + i, std::min<size_t>(16, row_bytes - i));
    }
  });
  mark_tensor_copied(copy.to, box_bytes(map), copy.by, copy.clock);
  complete_bytes(copy.barrier, box_bytes(map), copy.known);
}

bool land_tensor_copy(bool needed) {
  std::vector<TensorCopy>& copies = machine->tensor_copies;
  if (copies.empty()) return false;
  const size_t chosen = draw() % copies.size();
  if (!needed && (copies[chosen].late || draw() % 4)) return false;
  const TensorCopy copy = std::move(copies[chosen]);
  copies.erase(copies.begin() + chosen);
  land(copy);
  return true;
}

}  // namespace simt

using namespace simt;

// As cuTensorMapEncodeTiled does for 16-bit elements without interleaving, and with its rules (CUDA Driver API, "Tensor Map
// Object Management"). Writes why it refuses, and returns false.
extern "C" bool emulator_tensor_map(void* to, uint64_t address, uint32_t rank, const uint64_t* extents,
                                    const uint64_t* strides, const uint32_t* box, const uint32_t* steps, bool swizzled,
                                    char* error, size_t size) {
  TensorMap map = {};
  const auto refuse = [&](const char* why, uint64_t got) {
    snprintf(error, size, "a tensor map: %s, got %llu", why, (unsigned long long)got);
    return false;
  };
  if (rank < 1 || rank > 5) return refuse("rank must be 1 to 5", rank);
  if (address % 16 || !address) return refuse("the address must be aligned to 16", address);
  map.magic = TensorMap::MAGIC;
  map.address = (const unsigned char*)address;
  map.rank = rank;
  map.element_bytes = 2;
  map.swizzled = swizzled;
  for (uint32_t i = 0; i < rank; i++) {
    if (extents[i] == 0 || extents[i] >> 32) return refuse("extents must be 1 to 2^32 - 1", extents[i]);
    if (box[i] == 0 || box[i] > 256) return refuse("a box must be 1 to 256 long", box[i]);
    map.extents[i] = extents[i];
    if (steps[i] == 0 || steps[i] > 8) return refuse("a step must be 1 to 8", steps[i]);
    map.box[i] = box[i];
    map.steps[i] = steps[i];
    if (i == 0) continue;
    if (strides[i - 1] % 16 || strides[i - 1] >> 40) return refuse("strides must be multiples of 16", strides[i - 1]);
    map.strides[i - 1] = strides[i - 1];
  }
  if (steps[0] != 1) return refuse("the innermost dimension's step is ignored", steps[0]);
  if (box[0] * map.element_bytes % 16) return refuse("a box's rows must be multiples of 16 bytes", box[0]);
  if (swizzled && box[0] * map.element_bytes > SWIZZLE_ROW) return refuse("a swizzled box's rows have 128 bytes", box[0]);
  memset(to, 0, 128);
  memcpy(to, &map, sizeof map);
  return true;
}
