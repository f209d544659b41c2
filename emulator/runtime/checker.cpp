// Every load and store of a kernel comes here: the compiler calls the hooks at the end of this file, which are those of its
// thread sanitizer, whose library is not linked. An access is checked for bounds and alignment, for reading what nothing
// wrote, and for being ordered with the accesses of other threads.
#include "machine.h"
#include "sanitizers.h"

namespace simt {

static const char* name_of(Access access) {
  static const char* const names[] = {"read", "write", "atomic", "asynchronous read"};
  return names[(int)access];
}

enum Kind { UNINITIALISED, IN_FLIGHT, BEING_READ, UNFENCED, UNORDERED_WRITE, UNORDERED_READ, OTHER_BLOCK };

// Of shared memory each block starts anew; of device memory it starts with what other blocks of the launch did.
UNCHECKED static void enter_block(Cell& cell, const Place& place, size_t granule, Access access, Site site) {
  const bool shared = place.allocation == 0;
  if (shared) {
    cell.initialised = cell.flags = cell.async_readers = 0;
  } else if (cell.block < machine->first_block) {
    cell.flags = 0;
  } else {
    const bool written = cell.writer != 0, read = cell.reader[0] != 0 || cell.flags & READ_EARLIER;
    const bool atomics = access == Access::Atomic && cell.flags & BY_ATOMIC;
    if ((written && !atomics) || (read && access != Access::Read)) {
      report(site, OTHER_BLOCK, "race between blocks: %s of %s by thread %d of block %u, %s by block %u before",
             name_of(access), place.name(granule).c_str(), running()->number,
             machine->block_number - machine->first_block, written ? "written" : "read",
             cell.block - machine->first_block);
    }
    cell.flags = (cell.flags & BY_ATOMIC) | (read ? READ_EARLIER : 0);
    if (atomics) cell.flags = BY_ATOMIC;
  }
  cell.block = machine->block_number;
  cell.writer = cell.reader[0] = cell.reader[1] = 0;
}

UNCHECKED static void note_reader(Cell& cell, const Thread* thread) {
  const uint16_t reader = thread->number + 1;
  if (cell.reader[0] != reader) {
    cell.reader[1] = cell.reader[0];
    cell.read_clock[1] = cell.read_clock[0];
    cell.reader[0] = reader;
  }
  cell.read_clock[0] = thread->clock;
}

UNCHECKED static void check_cell(Cell& cell, const Place& place, size_t granule, Access access, Site site) {
  const Thread* thread = running();
  const uint16_t self = thread->number + 1;
  if (cell.block != machine->block_number) enter_block(cell, place, granule, access, site);
  const bool reads = access == Access::Read || access == Access::AsyncRead;
  // Sanitized kernels' own writes are not seen.
  if (reads && !cell.initialised && !SANITIZED) {
    report(site, UNINITIALISED, "read of uninitialised memory: %s by thread %d", place.name(granule).c_str(),
           thread->number);
  }
  const bool atomics = access == Access::Atomic && cell.flags & BY_ATOMIC;
  if (cell.flags & COPY_IN_FLIGHT) {
    report(site, IN_FLIGHT, "%s of %s by thread %d while an asynchronous copy into it is in flight", name_of(access),
           place.name(granule).c_str(), thread->number);
  } else if (cell.writer && cell.writer != self && !atomics &&
             !happened_before(cell.writer - 1, cell.write_clock, thread)) {
    report(site, UNORDERED_WRITE, "data race: %s of %s by thread %d is not ordered with its write by thread %d",
           name_of(access), place.name(granule).c_str(), thread->number, cell.writer - 1);
  }
  if (access == Access::AsyncRead) {
    const bool by_thread = cell.writer && !(cell.flags & (BY_TENSOR_COPY | COPY_IN_FLIGHT));
    if (by_thread && cell.write_clock > machine->threads[cell.writer - 1].fenced) {
      report(site, UNFENCED, "%s of %s by thread %d: it was written by thread %d, which has not fenced it (fence.proxy.async)",
             name_of(access), place.name(granule).c_str(), thread->number, cell.writer - 1);
    }
    cell.async_readers++;
    return;
  }
  if (access == Access::Read) {
    note_reader(cell, thread);
    return;
  }
  if (cell.async_readers) {
    report(site, BEING_READ, "%s of %s by thread %d while an asynchronous operation reads it", name_of(access),
           place.name(granule).c_str(), thread->number);
  }
  for (int i = 0; i < 2; i++) {
    const uint16_t reader = cell.reader[i];
    if (reader && reader != self && !happened_before(reader - 1, cell.read_clock[i], thread)) {
      report(site, UNORDERED_READ, "data race: %s of %s by thread %d is not ordered with its read by thread %d",
             name_of(access), place.name(granule).c_str(), thread->number, reader - 1);
      break;
    }
  }
  cell.writer = self;
  cell.write_clock = thread->clock;
  cell.initialised = 1;
  cell.reader[0] = cell.reader[1] = 0;
  cell.flags = access == Access::Atomic ? BY_ATOMIC : 0;
}

UNCHECKED void check(const void* p, size_t bytes, Access access, Site site) {
  if (!current) return;  // the launcher's own code
  if (size_t((const unsigned char*)p - running()->fiber.stack) < STACK_BYTES) return;  // registers, local memory
  Place place;
  if (!find_place(p, bytes, name_of(access), site, place)) {
    if (access == Access::Read) return;
    fail(site, "%s of %zu bytes of the host's memory by thread %d", name_of(access), bytes, running()->number);
  }
  for (size_t i = 0; i < cells_of(p, bytes); i++) check_cell(place.cells[i], place, i, access, site);
}

CALLED_BY_KERNEL void expect_aligned(const void* p, size_t bytes) {
  if ((uintptr_t)p % bytes == 0) return;
  fail(__builtin_return_address(0), "misaligned access of %zu bytes at %p by thread %d", bytes, p, running()->number);
}

void mark_copy_in_flight(uint32_t to, unsigned bytes) {
  Cell* cells = machine->arena.cells + to / GRANULE;
  for (unsigned i = 0; i < bytes / GRANULE; i++) cells[i].flags |= COPY_IN_FLIGHT;
}

static void mark_written(uint32_t to, unsigned bytes, const Thread* by, uint32_t clock, uint8_t flags) {
  Cell* cells = machine->arena.cells + to / GRANULE;
  for (unsigned i = 0; i < bytes / GRANULE; i++) {
    cells[i] = {};
    cells[i].block = machine->block_number;
    cells[i].write_clock = clock;
    cells[i].writer = by->number + 1;
    cells[i].initialised = 1;
    cells[i].flags = flags;
  }
}

void mark_copied(uint32_t to, unsigned bytes, const Thread* by) { mark_written(to, bytes, by, by->clock, 0); }

void mark_tensor_copied(uint32_t to, unsigned bytes, const Thread* by, uint32_t clock) {
  mark_written(to, bytes, by, clock, BY_TENSOR_COPY);
}

void end_async_read(uint32_t from, unsigned bytes, const Thread* by) {
  Cell* cells = machine->arena.cells + from / GRANULE;
  for (unsigned i = 0; i < bytes / GRANULE; i++) {
    cells[i].async_readers--;
    note_reader(cells[i], by);
  }
}

UNCHECKED static void check_aligned(const void* p, size_t bytes, Access access, Site site) {
  if (current && (uintptr_t)p % bytes) {
    fail(site, "misaligned %s of %zu bytes at %p by thread %d", name_of(access), bytes, p, running()->number);
  }
  check(p, bytes, access, site);
}

}  // namespace simt

using namespace simt;

#define HOOKS_FOR(BYTES)                                                    \
  CALLED_BY_KERNEL void __tsan_read##BYTES(void* p) {                       \
    check_aligned(p, BYTES, Access::Read, __builtin_return_address(0));     \
  }                                                                         \
  CALLED_BY_KERNEL void __tsan_write##BYTES(void* p) {                      \
    check_aligned(p, BYTES, Access::Write, __builtin_return_address(0));    \
  }                                                                         \
  CALLED_BY_KERNEL void __tsan_unaligned_read##BYTES(void* p) {             \
    check(p, BYTES, Access::Read, __builtin_return_address(0));             \
  }                                                                         \
  CALLED_BY_KERNEL void __tsan_unaligned_write##BYTES(void* p) {            \
    check(p, BYTES, Access::Write, __builtin_return_address(0));            \
  }

extern "C" {
HOOKS_FOR(1)
HOOKS_FOR(2)
HOOKS_FOR(4)
HOOKS_FOR(8)
HOOKS_FOR(16)
CALLED_BY_KERNEL void __tsan_read_range(void* p, size_t bytes) {
  check(p, bytes, Access::Read, __builtin_return_address(0));
}
CALLED_BY_KERNEL void __tsan_write_range(void* p, size_t bytes) {
  check(p, bytes, Access::Write, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
