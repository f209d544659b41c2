// Which events of a block are ordered. Barriers of the whole block and of a warp are kept as one clock per thread; only
// barriers of a part of the block, and Hopper's, need full vector clocks (Lamport 1978; Mattern 1989).
#include "machine.h"

namespace simt {

bool happened_before(int thread, uint32_t clock, const Thread* now) {
  if (thread == now->number || clock <= machine->barrier_clock[thread]) return true;
  if (thread / WARP == now->warp && clock <= machine->warps[now->warp].synced[thread % WARP]) return true;
  return machine->has_clocks && !now->known.empty() && clock <= now->known[thread];
}

// Raises `clocks` to what `thread` knows.
void add_clocks(const Thread* thread, Clocks& clocks) {
  clocks.resize(machine->thread_count);
  for (int other = 0; other < machine->thread_count; other++) {
    uint32_t clock = machine->barrier_clock[other];
    if (other == thread->number) clock = thread->clock;
    if (other / WARP == thread->warp) clock = std::max(clock, machine->warps[thread->warp].synced[other % WARP]);
    if (!thread->known.empty()) clock = std::max(clock, thread->known[other]);
    clocks[other] = std::max(clocks[other], clock);
  }
}

void learn(Thread* thread, const Clocks& clocks) {
  machine->has_clocks = true;
  thread->known.resize(machine->thread_count);
  for (size_t other = 0; other < clocks.size(); other++) {
    thread->known[other] = std::max(thread->known[other], clocks[other]);
  }
}

}  // namespace simt
