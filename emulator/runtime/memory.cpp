// Device memory and shared memory, and which object an address belongs to.
#include "machine.h"

#include <sys/mman.h>

namespace simt {

// Pages are given to what is touched alone.
constexpr size_t HEAP_BYTES = size_t(64) << 30, HEAP_GAP = 4096, HEAP_ALIGN = 256;
constexpr size_t ARENA_BYTES = 256 << 10, SHARED_GAP = 64;
// Not a number in f16, bf16 and f32, -1 as an index.
constexpr int POISON = 0xff;

static void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    perror("emulator: reserving addresses");
    abort();
  }
  return p;
}

static size_t shadow_bytes(size_t bytes) { return bytes / GRANULE * sizeof(Cell); }

void open_memory(Machine& m) {
  m.heap.base = (unsigned char*)reserve(HEAP_BYTES);
  m.heap.cells = (Cell*)reserve(shadow_bytes(HEAP_BYTES));
  m.arena.base = (unsigned char*)reserve(ARENA_BYTES);
  m.arena.cells = (Cell*)reserve(shadow_bytes(ARENA_BYTES));
  unsigned char* stacks = (unsigned char*)reserve(MOST_THREADS * STACK_BYTES);
  for (int i = 0; i < MOST_THREADS; i++) m.threads[i].fiber.stack = stacks + i * STACK_BYTES;
}

void close_memory(Machine& m) {
  open_up(m.heap.base, m.heap.used);
  open_up(m.arena.base, ARENA_BYTES);
  open_up(m.threads[0].fiber.stack, MOST_THREADS * STACK_BYTES);
  munmap(m.heap.base, HEAP_BYTES);
  munmap(m.heap.cells, shadow_bytes(HEAP_BYTES));
  munmap(m.arena.base, ARENA_BYTES);
  munmap(m.arena.cells, shadow_bytes(ARENA_BYTES));
  munmap(m.threads[0].fiber.stack, MOST_THREADS * STACK_BYTES);
}

// ---- device memory ----

static Cell* heap_cell(const Heap& heap, const void* p) {
  return heap.cells + size_t((const unsigned char*)p - heap.base) / GRANULE;
}

void* allocate(Machine& m, size_t bytes) {
  Heap& heap = m.heap;
  const size_t next = (heap.used + bytes + HEAP_GAP + HEAP_ALIGN - 1) / HEAP_ALIGN * HEAP_ALIGN;
  if (next > HEAP_BYTES) return nullptr;
  unsigned char* p = heap.base + heap.used;
  heap.used = next;
  memset(p, POISON, bytes);
  close_off(p + bytes, heap.base + next - (p + bytes));
  heap.allocations.emplace(p, Allocation{bytes, bytes, ++heap.count});
  return p;
}

static void forget_pages(void* start, size_t bytes) {
  const uintptr_t page = 4096, first = ((uintptr_t)start + page - 1) / page * page;
  const uintptr_t last = ((uintptr_t)start + bytes) / page * page;
  if (first < last) madvise((void*)first, last - first, MADV_DONTNEED);
}

bool release(Machine& m, void* p) {
  Heap& heap = m.heap;
  const auto found = heap.allocations.find((unsigned char*)p);
  if (found == heap.allocations.end()) return false;
  forget_pages(p, found->second.room);
  close_off(p, found->second.room);
  forget_pages(heap_cell(heap, p), shadow_bytes(found->second.room));
  heap.allocations.erase(found);
  heap.last = nullptr;
  return true;
}

// An allocation that lies unused has 0 bytes.
bool renew(Machine& m, void* p, size_t bytes) {
  const auto found = m.heap.allocations.find((unsigned char*)p);
  if (found == m.heap.allocations.end() || bytes > found->second.room) return false;
  found->second.bytes = bytes;
  open_up(p, bytes);
  close_off((unsigned char*)p + bytes, found->second.room - bytes);
  memset(p, POISON, bytes);
  memset((void*)heap_cell(m.heap, p), 0, shadow_bytes(bytes + GRANULE - 1));
  return true;
}

// The allocation that holds all these bytes.
static const std::pair<const unsigned char* const, Allocation>* allocation_of(Heap& heap, const void* p, size_t bytes) {
  const unsigned char* at = (const unsigned char*)p;
  const auto holds = [&](const std::pair<const unsigned char* const, Allocation>& allocation) {
    const size_t offset = at - allocation.first;
    return at >= allocation.first && offset <= allocation.second.bytes && bytes <= allocation.second.bytes - offset;
  };
  if (heap.last && holds(*heap.last)) return heap.last;
  auto above = heap.allocations.upper_bound(at);
  if (above == heap.allocations.begin()) return nullptr;
  auto& below = *--above;
  if (!holds(below)) return nullptr;
  return heap.last = &below;
}

bool is_device_memory(Machine& m, const void* p, size_t bytes) { return allocation_of(m.heap, p, bytes) != nullptr; }

void mark_initialised(Machine& m, const void* p, size_t bytes) {
  for (size_t i = 0; i < cells_of(p, bytes); i++) heap_cell(m.heap, p)[i].initialised = 1;
}

// The first byte of some that nothing has written; `bytes` if there is none.
size_t first_unwritten(Machine& m, const void* p, size_t bytes) {
  if (SANITIZED) return bytes;  // a kernel's writes are not seen
  const Cell* cells = heap_cell(m.heap, p);
  for (size_t i = 0; i < cells_of(p, bytes); i++) {
    if (!cells[i].initialised) return std::min(bytes, i * GRANULE);
  }
  return bytes;
}

void copy_initialised(Machine& m, const void* to, const void* from, size_t bytes) {
  for (size_t i = 0; i < cells_of(to, bytes); i++) {
    heap_cell(m.heap, to)[i].initialised = heap_cell(m.heap, from)[i].initialised;
  }
}

// ---- shared memory ----

void reset_shared_memory(uint32_t dynamic) {
  Arena& arena = machine->arena;
  open_up(arena.base, ARENA_BYTES);
  memset(arena.base, POISON, std::max(arena.used, dynamic));
  close_off(arena.base + dynamic, ARENA_BYTES - dynamic);
  arena.dynamic = arena.used = dynamic;
  arena.next = (dynamic + 1023) / 1024 * 1024;
  arena.variables.clear();
  arena.last = {0, dynamic};
}

CALLED_BY_KERNEL void* shared_variable(const void* tag, size_t bytes, size_t align) {
  Arena& arena = machine->arena;
  const auto found = arena.variables.find(tag);
  if (found != arena.variables.end()) return arena.base + found->second.start;
  const size_t aligned_to = std::max(align, size_t(16));
  const uint32_t start = (arena.next + SHARED_GAP + aligned_to - 1) / aligned_to * aligned_to;
  uint32_t total = arena.dynamic + bytes;
  for (const auto& [other, variable] : arena.variables) total += variable.bytes;
  if (total > machine->limits.shared_memory || start + bytes > ARENA_BYTES) {
    fail(__builtin_return_address(0), "%u bytes of shared memory, but a block has at most %u", total,
         machine->limits.shared_memory);
  }
  open_up(arena.base + start, bytes);
  memset(arena.base + start, POISON, bytes);
  arena.next = arena.used = start + bytes;
  arena.variables[tag] = {start, uint32_t(bytes)};
  return arena.base + start;
}

CALLED_BY_KERNEL unsigned char* dynamic_shared_memory(size_t align) {
  if (align > 1024) fail(__builtin_return_address(0), "dynamic shared memory is aligned to 1024 bytes at most");
  return machine->arena.base;
}

static bool in_shared_object(Arena& arena, uint32_t at, size_t bytes) {
  const auto holds = [&](const SharedVariable& variable) {
    return at >= variable.start && at + bytes <= size_t(variable.start) + variable.bytes;
  };
  if (holds(arena.last)) return true;
  if (holds({0, arena.dynamic})) {
    arena.last = {0, arena.dynamic};
    return true;
  }
  for (const auto& [tag, variable] : arena.variables) {
    if (holds(variable)) {
      arena.last = variable;
      return true;
    }
  }
  return false;
}

// ---- both ----

std::string Place::name(size_t granule) const {
  char text[64];
  const size_t at = offset / GRANULE * GRANULE + granule * GRANULE;
  if (allocation == 0) {
    snprintf(text, sizeof text, "shared memory + %zu", at);
  } else {
    snprintf(text, sizeof text, "allocation %u + %zu", allocation, at);
  }
  return text;
}

UNCHECKED bool find_place(const void* p, size_t bytes, const char* what, Site site, Place& place) {
  const unsigned char* at = (const unsigned char*)p;
  Arena& arena = machine->arena;
  Heap& heap = machine->heap;
  const int thread = running()->number;
  if (size_t(at - arena.base) < ARENA_BYTES) {
    const uint32_t offset = at - arena.base;
    if (!in_shared_object(arena, offset, bytes)) {
      fail(site, "out-of-bounds shared memory: %s of %zu bytes at shared memory + %u by thread %d", what, bytes, offset,
           thread);
    }
    place = {arena.cells + offset / GRANULE, 0, offset};
    return true;
  }
  if (size_t(at - heap.base) >= HEAP_BYTES) return false;
  const auto* allocation = allocation_of(heap, p, bytes);
  if (!allocation) {
    const auto above = heap.allocations.upper_bound(at);
    if (above == heap.allocations.begin()) {
      fail(site, "%s of %zu bytes of device memory that is not allocated, by thread %d", what, bytes, thread);
    }
    const auto& below = *std::prev(above);
    fail(site, "out-of-bounds device memory: %s of %zu bytes at allocation %u + %zu, which has %zu bytes, by thread %d",
         what, bytes, below.second.number, size_t(at - below.first), below.second.bytes, thread);
  }
  place = {heap_cell(heap, p), allocation->second.number, size_t(at - allocation->first)};
  return true;
}

}  // namespace simt
