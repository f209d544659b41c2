// The emulated GPU: all state of the runtime. One Machine is one device; a host thread drives one at a time.
#pragma once
#include <cstdarg>
#include <map>
#include <string>
#include <vector>

#include "fiber.h"
#include "simt.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

// Runtime code that kernels call: never checked itself, never inlined, so that its return address is the kernel's.
#define UNCHECKED __attribute__((no_sanitize("thread")))
#define CALLED_BY_KERNEL __attribute__((noinline)) UNCHECKED

namespace simt {

constexpr int MOST_THREADS = 1024, WARP = 32, MOST_WARPS = MOST_THREADS / WARP;
constexpr unsigned ALL = ~0u;

// Where in the kernel something happened: a return address, which reports turn into file and line.
using Site = void*;

// ---- threads, warps, barriers ----

// Logical clocks of all threads of a block: what one of them knows of the others.
using Clocks = std::vector<uint32_t>;

struct PendingCopy {
  uint32_t to;
  const unsigned char* from;
  unsigned bytes;
  bool wanted, landed;
  int group;
};

enum class State : uint8_t { Ready, Running, Waiting, Done };

struct Thread : ThreadView {
  Fiber fiber;
  State state;
  const char* waits_in;
  Site waits_at;
  uint32_t clock;         // advances whenever the thread orders itself with others
  Clocks known;           // of others, beyond what block and warp barriers tell; empty: nothing
  std::vector<PendingCopy> copies;
  int copy_group;
  uint32_t fenced;        // its writes up to then are seen by asynchronous operations
};

// What the lanes of a warp do together, once all that were named have arrived.
using WarpOperation = void (*)(void** arguments, unsigned mask);

struct Warp {
  void* arguments[WARP];
  Thread* waiting[WARP];
  int waiters;
  unsigned arrived, wanted, alive;
  const char* what;
  uint32_t synced[WARP];  // each lane's clock at its last __syncwarp
};

struct Barrier {
  std::vector<Thread*> arrived;
  int threads;  // 0: the whole block
  const char* file;
  int line;
};

// Hopper's barrier in shared memory: a phase ends when all have arrived and all bytes that were expected are there.
struct Mbarrier {
  uint32_t count, pending, phase;
  int64_t bytes;      // still to come in this phase
  bool fenced;        // tensor copies know of it
  Clocks arriving, completed;  // what is known to those who arrived in this phase, and in the last
  std::vector<Thread*> waiting;
};

// A tensor as tensor copies see it: what the 128 bytes of a TensorMap hold here.
struct TensorMap {
  static constexpr uint64_t MAGIC = 0x70616d726f736e74;
  uint64_t magic;
  const unsigned char* address;
  uint64_t strides[4];   // bytes from one to the next along dimensions 1 and on
  uint32_t extents[5];
  uint16_t box[5];       // how far one reaches
  uint8_t steps[5];      // from one element that it takes to the next
  uint8_t rank, element_bytes;
  uint8_t swizzled;      // by 128 bytes, or not
};
static_assert(sizeof(TensorMap) <= 128, "as large as the driver's");

struct TensorCopy {
  uint32_t to, barrier;
  TensorMap map;
  int32_t at[5];
  const Thread* by;
  uint32_t clock;  // when it was issued
  Clocks known;    // to who issued it
  bool late;       // not before somebody cannot go on without it
};

// Products that a warpgroup has under way.
constexpr int WARPGROUP = 128;
struct WarpgroupProduct {
  uint64_t a, b;          // descriptors
  bool a_in_registers, b_transposed, done;
  float registers[64][16];
  float (*to_f32)(uint16_t);
  size_t sums;            // which
  bool accumulates;
  int group;
};
struct WarpgroupSums {
  float* registers[WARPGROUP];
  int columns;
  std::vector<float> sum;  // [64, columns]
  int group;               // the last one that adds to it
  bool delivered;
};
struct Warpgroup {
  void* arguments[WARPGROUP];
  std::vector<Thread*> waiting;
  const char* what;
  std::vector<WarpgroupProduct> products;
  std::vector<WarpgroupSums> sums;
  int group;
  bool fenced;  // since its registers were last its threads' own
};

// ---- memory and its shadow ----

// What is known of two neighbouring bytes. Elements are never smaller, so neither are the granules.
constexpr size_t GRANULE = 2;

enum CellFlag : uint8_t {
  BY_ATOMIC = 1,        // last written by an atomic
  COPY_IN_FLIGHT = 2,   // an asynchronous copy will write it
  READ_EARLIER = 4,     // read by a block of this launch before the one that `block` names
  BY_TENSOR_COPY = 8,   // last written by a tensor copy, which asynchronous operations see without a fence
};

struct Cell {
  uint32_t block;           // the block that touched it last, counted over all launches; 0: none
  uint32_t write_clock;     // when, in the writer's time
  uint32_t read_clock[2];   // of the last two readers
  uint16_t writer, reader[2];  // thread number + 1; 0: none
  uint8_t initialised;
  uint8_t flags : 4, async_readers : 4;  // asynchronous operations that are reading it
};

struct Allocation {
  size_t bytes;
  size_t room;      // what was allocated; less may be in use
  uint32_t number;  // in order of allocation, for reports
};

// Device memory: a range of addresses of its own, never handed out twice, with gaps; so host pointers, overruns and uses
// after free are told apart.
struct Heap {
  unsigned char* base;
  Cell* cells;
  size_t used;
  uint32_t count;
  std::map<const unsigned char*, Allocation> allocations;
  std::pair<const unsigned char* const, Allocation>* last;  // found last
};

struct SharedVariable {
  uint32_t start, bytes;
};

// A block's shared memory: the dynamic part first, then variables, each with a gap around it.
struct Arena {
  unsigned char* base;
  Cell* cells;
  uint32_t dynamic, next, used;
  std::map<const void*, SharedVariable> variables;
  SharedVariable last;  // found last
};

// ---- the device ----

struct Limits {
  uint32_t shared_memory;  // bytes a block
};

enum class Policy : uint8_t { Uniform, Priorities, ChangingPriorities };

struct Launch {
  uint32_t grid[3], block[3], dynamic_shared_memory;
};

struct Machine {
  uint32_t capability;
  Limits limits;
  Heap heap;
  Arena arena;

  // The launch under way.
  const Kernel* kernel;
  void** arguments;
  uint64_t random;            // the state of the schedule's generator
  uint32_t block_number;      // counted over all launches
  uint32_t first_block;       // of this launch
  bool failed;
  std::string errors;
  std::map<std::pair<Site, int>, int> reported;

  // The block under way.
  Thread threads[MOST_THREADS];
  int thread_count, alive;
  Thread* ready[MOST_WARPS][WARP];
  int ready_count[MOST_WARPS];
  uint32_t ready_warps;
  Policy policy;
  uint8_t priority[MOST_WARPS];
  Warp warps[MOST_WARPS];
  std::map<int, Barrier> barriers;
  std::map<uint32_t, Mbarrier> mbarriers;  // by address
  std::vector<TensorCopy> tensor_copies;   // under way
  Warpgroup warpgroups[MOST_THREADS / WARPGROUP];
  uint32_t barrier_clock[MOST_THREADS];  // each thread's clock at the last barrier of the whole block
  bool has_clocks;                       // whether any thread has `known`
  Fiber main;

  explicit Machine(uint32_t capability);
  ~Machine();
};

// The machine that this host thread drives.
extern thread_local Machine* machine;
inline Thread* running() { return static_cast<Thread*>(current); }

// ---- schedule.cpp ----
uint64_t draw();  // the schedule's next random number
void make_ready(Thread* thread);
void wait_for(const char* what, Site site);
// Lets others run first, now and then.
void maybe_yield();
void run_block(const Launch& launch, uint3 index);

// ---- barrier.cpp ----
void release_after_exit();

// ---- warp.cpp ----
void arrive(const char* what, unsigned mask, void* argument, WarpOperation operation, Site site);

// ---- mbarrier.cpp ----
// Bytes that a tensor copy brought, and what was known when it was issued.
void complete_bytes(uint32_t barrier, size_t bytes, const Clocks& known);

// ---- tensor_copy.cpp ----
// Lets one of the copies under way land, if there is one that may; `needed`: nobody can run without.
bool land_tensor_copy(bool needed);

// ---- warpgroup.cpp ----
void begin_warpgroups();
bool warpgroups_are_done();

// ---- clocks.cpp ----
bool happened_before(int thread, uint32_t clock, const Thread* now);
void add_clocks(const Thread* thread, Clocks& clocks);
void learn(Thread* thread, const Clocks& clocks);

// ---- memory.cpp ----
void open_memory(Machine&);
void close_memory(Machine&);
void reset_shared_memory(uint32_t dynamic);
// The cells of an access, once it is known to lie within one object.
struct Place {
  Cell* cells;
  uint32_t allocation;  // 0: shared memory
  size_t offset;

  std::string name(size_t granule) const;
};
// False: ordinary memory of the process, such as a constant. Fails outside of all objects.
bool find_place(const void* p, size_t bytes, const char* what, Site site, Place& place);
// Of the host's side: no address is checked.
void* allocate(Machine&, size_t bytes);
bool release(Machine&, void* p);
bool renew(Machine&, void* p, size_t bytes);
bool is_device_memory(Machine&, const void* p, size_t bytes);
void mark_initialised(Machine&, const void* p, size_t bytes);
size_t first_unwritten(Machine&, const void* p, size_t bytes);
void copy_initialised(Machine&, const void* to, const void* from, size_t bytes);
inline size_t cells_of(const void* p, size_t bytes) {
  return ((uintptr_t)p + bytes - 1) / GRANULE - (uintptr_t)p / GRANULE + 1;
}

// ---- checker.cpp ----
// An asynchronous read goes on until `end_async_read`.
enum class Access : uint8_t { Read, Write, Atomic, AsyncRead };
void check(const void* p, size_t bytes, Access access, Site site);
void end_async_read(uint32_t from, unsigned bytes, const Thread* by);
void mark_copy_in_flight(uint32_t to, unsigned bytes);
void mark_copied(uint32_t to, unsigned bytes, const Thread* by);
void mark_tensor_copied(uint32_t to, unsigned bytes, const Thread* by, uint32_t clock);

// ---- report.cpp ----
// Ends the launch. Formats as printf does, and adds where it happened.
[[noreturn]] void fail(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));
// The same, but goes on, and says each thing once for each site: `kind` tells things apart.
void report(Site site, int kind, const char* format, ...) __attribute__((format(printf, 3, 4)));
std::string with_lines(std::string text);

}  // namespace simt
