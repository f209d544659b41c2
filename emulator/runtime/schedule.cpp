// Who runs next: a random choice, the same for the same seed.
#include "machine.h"

namespace simt {

thread_local ThreadView* current;
thread_local BlockView block;
thread_local Machine* machine;

// SplitMix64.
uint64_t draw() {
  uint64_t z = machine->random += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

void make_ready(Thread* thread) {
  thread->state = State::Ready;
  const int warp = thread->warp;
  machine->ready[warp][machine->ready_count[warp]++] = thread;
  machine->ready_warps |= 1u << warp;
}

[[noreturn]] static void deadlock() {
  std::map<std::pair<std::string, Site>, std::vector<int>> waiting;
  for (int i = 0; i < machine->thread_count; i++) {
    const Thread& thread = machine->threads[i];
    if (thread.state == State::Waiting) waiting[{thread.waits_in, thread.waits_at}].push_back(i);
  }
  std::string text = "deadlock: no thread can run; ";
  for (const auto& [where, threads] : waiting) {
    char part[160];
    snprintf(part, sizeof part, "%zu (the first is thread %d) wait in %s [pc %p]; ", threads.size(), threads[0],
             where.first.c_str(), where.second);
    text += part;
  }
  fail(nullptr, "%s%d have exited", text.c_str(), machine->thread_count - machine->alive);
}

// Uniform: any warp. Priorities: always the first of a random order, so that warps run far ahead of each other.
// Changing priorities: two warps of the order change places now and then (Burckhardt et al. 2010, "A randomized scheduler
// with probabilistic guarantees of finding bugs").
static int choose_warp(uint64_t random) {
  uint32_t candidates = machine->ready_warps;
  if (machine->policy == Policy::Uniform) {
    for (int skip = (random >> 8) % __builtin_popcount(candidates); skip > 0; skip--) candidates &= candidates - 1;
    return __builtin_ctz(candidates);
  }
  if (machine->policy == Policy::ChangingPriorities && random % 512 == 0) {
    std::swap(machine->priority[(random >> 20) % MOST_WARPS], machine->priority[(random >> 40) % MOST_WARPS]);
  }
  int best = __builtin_ctz(candidates);
  for (; candidates; candidates &= candidates - 1) {
    const int warp = __builtin_ctz(candidates);
    if (machine->priority[warp] > machine->priority[best]) best = warp;
  }
  return best;
}

static Thread* next_thread() {
  land_tensor_copy(false);
  while (!machine->ready_warps && land_tensor_copy(true)) {
  }
  if (!machine->ready_warps) deadlock();
  const uint64_t random = draw();
  const int warp = choose_warp(random);
  Thread** ready = machine->ready[warp];
  int& count = machine->ready_count[warp];
  const int chosen = (random >> 32) % count;
  Thread* thread = ready[chosen];
  ready[chosen] = ready[--count];
  if (count == 0) machine->ready_warps &= ~(1u << warp);
  return thread;
}

static void switch_to(Fiber& from, Thread* next) {
  next->state = State::Running;
  const bool same = &from == &next->fiber;
  current = next;
  if (!same) switch_fibers(from, next->fiber);
}

void wait_for(const char* what, Site site) {
  Thread* thread = running();
  if (thread->state == State::Running) thread->state = State::Waiting;
  thread->waits_in = what;
  thread->waits_at = site;
  switch_to(thread->fiber, next_thread());
}

void maybe_yield() {
  if (draw() % 2 == 0) return;
  make_ready(running());
  wait_for("its turn", nullptr);
}

static void thread_main() {
  machine->kernel->call(machine->kernel->function, machine->arguments);
  Thread* thread = running();
  Warp& warp = machine->warps[thread->warp];
  thread->state = State::Done;
  machine->alive--;
  warp.alive &= ~(1u << thread->lane);
  if (warp.arrived && warp.wanted >> thread->lane & 1) {
    fail(nullptr, "thread %d exits while its warp waits for it in %s", thread->number, warp.what);
  }
  release_after_exit();
  if (machine->alive == 0 && (!machine->tensor_copies.empty() || !warpgroups_are_done())) {
    fail(nullptr, "the block ends while tensor copies or wgmma of it are under way");
  }
  if (machine->alive > 0) {
    switch_to(thread->fiber, next_thread());
  } else {
    current = nullptr;
    switch_fibers(thread->fiber, machine->main);
  }
  __builtin_unreachable();
}

static void begin_block(const Launch& launch, uint3 index) {
  const uint32_t* size = launch.block;
  machine->thread_count = machine->alive = size[0] * size[1] * size[2];
  machine->block_number++;
  machine->ready_warps = 0;
  machine->has_clocks = false;
  machine->barriers.clear();
  machine->mbarriers.clear();
  machine->tensor_copies.clear();
  begin_warpgroups();
  memset(machine->ready_count, 0, sizeof machine->ready_count);
  memset(machine->barrier_clock, 0, sizeof machine->barrier_clock);
  reset_shared_memory(launch.dynamic_shared_memory);
  block = {index, {size[0], size[1], size[2]}, {launch.grid[0], launch.grid[1], launch.grid[2]}, machine->arena.base};
  for (int i = 0; i < MOST_WARPS; i++) {
    Warp& warp = machine->warps[i];
    const int lanes = machine->thread_count - i * WARP;
    warp.alive = lanes >= WARP ? ALL : lanes > 0 ? (1u << lanes) - 1 : 0;
    warp.arrived = warp.waiters = 0;
    memset(warp.synced, 0, sizeof warp.synced);
  }
}

static void choose_policy() {
  machine->policy = Policy(draw() % 3);
  for (int i = 0; i < MOST_WARPS; i++) machine->priority[i] = i;
  for (int i = MOST_WARPS - 1; i > 0; i--) std::swap(machine->priority[i], machine->priority[draw() % (i + 1)]);
}

void run_block(const Launch& launch, uint3 index) {
  begin_block(launch, index);
  choose_policy();
  for (int i = 0; i < machine->thread_count; i++) {
    Thread& thread = machine->threads[i];
    const unsigned x = launch.block[0], y = launch.block[1];
    thread.index = {i % x, i / x % y, i / (x * y)};
    thread.number = i;
    thread.lane = i % WARP;
    thread.warp = i / WARP;
    thread.clock = 1;
    thread.known.clear();
    thread.copies.clear();
    thread.copy_group = 0;
    thread.fenced = 0;
    prepare(thread.fiber, thread_main);
    make_ready(&thread);
  }
  switch_to(machine->main, next_thread());
}

}  // namespace simt
