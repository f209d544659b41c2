// __syncthreads and named barriers.
#include "machine.h"

namespace simt {

static bool complete(const Barrier& barrier) {
  const int wanted = barrier.threads ? barrier.threads : machine->alive;
  return !barrier.arrived.empty() && (int)barrier.arrived.size() >= wanted;
}

static void release(Barrier& barrier) {
  if (barrier.threads == 0) {
    for (Thread* thread : barrier.arrived) machine->barrier_clock[thread->number] = thread->clock++;
  } else {
    Clocks clocks;
    for (const Thread* thread : barrier.arrived) add_clocks(thread, clocks);
    for (Thread* thread : barrier.arrived) {
      learn(thread, clocks);
      thread->clock++;
    }
  }
  for (Thread* thread : barrier.arrived) make_ready(thread);
  barrier.arrived.clear();
}

// A barrier of the whole block waits for those that are left.
void release_after_exit() {
  for (auto& [id, barrier] : machine->barriers) {
    if (barrier.threads == 0 && complete(barrier)) release(barrier);
  }
}

CALLED_BY_KERNEL void block_barrier(int id, int threads, const char* file, int line) {
  const Site site = __builtin_return_address(0);
  Barrier& barrier = machine->barriers[id];
  Thread* thread = running();
  if (id == 0 && !barrier.arrived.empty() && (barrier.line != line || strcmp(barrier.file, file))) {
    fail(site, "barrier divergence: thread %d is at __syncthreads() of line %d, thread %d at that of line %d",
         thread->number, line, barrier.arrived[0]->number, barrier.line);
  }
  barrier.threads = threads;
  barrier.file = file;
  barrier.line = line;
  barrier.arrived.push_back(thread);
  thread->state = State::Waiting;
  if (complete(barrier)) release(barrier);
  wait_for(id == 0 ? "__syncthreads()" : "a named barrier", site);
}

}  // namespace simt
