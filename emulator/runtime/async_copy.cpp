// cp.async: a copy lands at once, or as late as its wait; nobody may touch where it goes in between.
#include "machine.h"

namespace simt {

static void land(PendingCopy& copy) {
  if (copy.landed) return;
  copy.landed = true;
  unsigned char* to = machine->arena.base + copy.to;
  if (copy.wanted) {
    memcpy(to, copy.from, copy.bytes);
  } else {
    memset(to, 0, copy.bytes);
  }
}

CALLED_BY_KERNEL void async_copy(uint32_t to, const void* from, unsigned bytes, bool wanted) {
  const Site site = __builtin_return_address(0);
  Thread* thread = running();
  if (to % bytes) fail(site, "cp.async: shared address %u is not aligned to %u", to, bytes);
  if (wanted && (uintptr_t)from % bytes) fail(site, "cp.async: device address %p is not aligned to %u", from, bytes);
  if (wanted) check(from, bytes, Access::Read, site);
  check(machine->arena.base + to, bytes, Access::Write, site);
  mark_copy_in_flight(to, bytes);
  thread->copies.push_back({to, (const unsigned char*)from, bytes, wanted, false, thread->copy_group});
  if (draw() % 2 == 0) land(thread->copies.back());
}

void async_copy_commit() { running()->copy_group++; }

void async_copy_wait(int groups_left) {
  Thread* thread = running();
  size_t kept = 0;
  for (PendingCopy& copy : thread->copies) {
    if (copy.group < thread->copy_group - groups_left) {
      land(copy);
      mark_copied(copy.to, copy.bytes, thread);
    } else {
      thread->copies[kept++] = copy;
    }
  }
  thread->copies.resize(kept);
}

}  // namespace simt
