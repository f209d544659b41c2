// Hopper's barriers: mbarrier. They order those who arrive, and the tensor copies that report to them, with those who wait.
#include "machine.h"

namespace simt {

void require_hopper(const char* what, Site site) {
  if (machine->capability != 90) fail(site, "%s: needs compute capability 9.0, this is %u", what, machine->capability);
}

static Mbarrier& find(uint32_t barrier, const char* what, Site site) {
  const auto found = machine->mbarriers.find(barrier);
  if (found == machine->mbarriers.end()) fail(site, "%s: no mbarrier at shared memory + %u", what, barrier);
  return found->second;
}

static void end_phase_if_complete(Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes > 0) return;
  barrier.phase++;
  barrier.pending = barrier.count;
  barrier.completed = std::move(barrier.arriving);
  barrier.arriving.clear();
  for (Thread* thread : barrier.waiting) make_ready(thread);
  barrier.waiting.clear();
}

CALLED_BY_KERNEL void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
  const Site site = __builtin_return_address(0);
  require_hopper("mbarrier.init", site);
  if (barrier % 8) fail(site, "mbarrier.init: shared address %u is not aligned to 8", barrier);
  if (arrivals == 0 || arrivals >= 1 << 20) fail(site, "mbarrier.init: %u arrivals", arrivals);
  check(machine->arena.base + barrier, 8, Access::Write, site);
  machine->mbarriers[barrier] = {arrivals, arrivals, 0, 0, false, {}, {}, {}};
}

// Whoever fences has made the barriers that there are.
void mbarrier_fence_init() {
  for (auto& [address, barrier] : machine->mbarriers) barrier.fenced = true;
}

CALLED_BY_KERNEL void mbarrier_arrive(uint32_t barrier, uint32_t bytes) {
  const Site site = __builtin_return_address(0);
  Mbarrier& it = find(barrier, "mbarrier.arrive", site);
  check(machine->arena.base + barrier, 8, Access::Atomic, site);
  if (it.pending == 0) fail(site, "mbarrier.arrive: more arrivals at shared memory + %u than it was made for", barrier);
  Thread* thread = running();
  add_clocks(thread, it.arriving);
  thread->clock++;
  it.bytes += bytes;
  it.pending--;
  end_phase_if_complete(it);
  maybe_yield();
}

// False: the phase of this parity is under way. A thread is not asked again before it ends.
CALLED_BY_KERNEL bool mbarrier_try_wait(uint32_t barrier, uint32_t parity) {
  const Site site = __builtin_return_address(0);
  Mbarrier& it = find(barrier, "mbarrier.try_wait", site);
  check(machine->arena.base + barrier, 8, Access::Atomic, site);
  if (it.phase % 2 == parity % 2) {
    it.waiting.push_back(running());
    wait_for("mbarrier.try_wait", site);
    return false;
  }
  if (!it.completed.empty()) learn(running(), it.completed);
  return true;
}

void complete_bytes(uint32_t barrier, size_t bytes, const Clocks& known) {
  Mbarrier& it = find(barrier, "a tensor copy", nullptr);
  it.bytes -= int64_t(bytes);
  if (it.bytes < 0) {
    fail(nullptr, "mbarrier at shared memory + %u: tensor copies bring %lld bytes more than it was told to expect", barrier,
         -(long long)it.bytes);
  }
  it.arriving.resize(machine->thread_count);
  for (size_t i = 0; i < known.size(); i++) it.arriving[i] = std::max(it.arriving[i], known[i]);
  end_phase_if_complete(it);
}

// fence.proxy.async: what this thread wrote is seen by the asynchronous operations that are ordered after it.
void proxy_fence() {
  Thread* thread = running();
  thread->fenced = thread->clock++;
}

}  // namespace simt
