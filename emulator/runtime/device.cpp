// What Rust calls: a device, its memory, launches. Functions that can fail write why and return false.
#include "machine.h"

namespace simt {

// The most shared memory of a block (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
static Limits limits_of(uint32_t capability) {
  switch (capability) {
    case 80: case 87: return {163 << 10};
    case 86: case 89: case 120: return {99 << 10};
    case 90: case 100: return {227 << 10};
    default: return {48 << 10};
  }
}

Machine::Machine(uint32_t capability) : capability(capability), limits(limits_of(capability)), heap(), arena() {
  block_number = 0;
  open_memory(*this);
}

Machine::~Machine() { close_memory(*this); }

static void say(const std::string& text, char* error, size_t size) { snprintf(error, size, "%s", text.c_str()); }

static std::string format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

// What a driver would refuse; empty: nothing.
static std::string refused(const Machine& m, const Kernel* kernel, const char* name, const Launch& launch,
                           const size_t* sizes, size_t count) {
  if (!kernel) return format("no kernel is called %s", name);
  if (count != kernel->arguments.size()) {
    return format("%s takes %zu arguments, %zu were given", name, kernel->arguments.size(), count);
  }
  for (size_t i = 0; i < count; i++) {
    const Argument& wanted = kernel->arguments[i];
    if (sizes[i] != wanted.bytes) {
      return format("argument %zu of %s is a %s of %zu bytes, %zu were given", i, name, wanted.type.c_str(), wanted.bytes,
                    sizes[i]);
    }
  }
  const uint32_t most_blocks[] = {0x7fffffff, 65535, 65535}, most_threads[] = {1024, 1024, 64};
  for (int i = 0; i < 3; i++) {
    if (launch.grid[i] == 0 || launch.grid[i] > most_blocks[i]) {
      return format("%s: a grid of %u in dimension %d, it must be 1 to %u", name, launch.grid[i], i, most_blocks[i]);
    }
    if (launch.block[i] == 0 || launch.block[i] > most_threads[i]) {
      return format("%s: a block of %u in dimension %d, it must be 1 to %u", name, launch.block[i], i, most_threads[i]);
    }
  }
  const uint64_t threads = uint64_t(launch.block[0]) * launch.block[1] * launch.block[2];
  if (threads > MOST_THREADS) return format("%s: a block of %zu threads, at most 1024", name, size_t(threads));
  if (launch.dynamic_shared_memory > m.limits.shared_memory) {
    return format("%s: %u bytes of dynamic shared memory, a block has at most %u", name, launch.dynamic_shared_memory,
                  m.limits.shared_memory);
  }
  return "";
}

static void run_blocks(const Launch& launch) {
  const uint32_t *grid = launch.grid, count = grid[0] * grid[1] * grid[2];
  std::vector<uint32_t> order(count);
  for (uint32_t i = 0; i < count; i++) order[i] = i;
  for (uint32_t i = count; i > 1; i--) std::swap(order[i - 1], order[draw() % i]);
  for (uint32_t i : order) {
    run_block(launch, {i % grid[0], i / grid[0] % grid[1], i / (grid[0] * grid[1])});
    if (machine->failed) return;
  }
}

}  // namespace simt

using namespace simt;

enum class Copy : int { ToDevice, FromDevice, Within };

extern "C" {

Machine* emulator_open(uint32_t capability) { return new Machine(capability); }

void emulator_close(Machine* m) { delete m; }

void* emulator_alloc(Machine* m, size_t bytes) { return allocate(*m, bytes); }

bool emulator_free(Machine* m, void* p) { return release(*m, p); }

bool emulator_renew(Machine* m, void* p, size_t bytes) { return renew(*m, p, bytes); }

bool emulator_has(Machine* m, const void* p, size_t bytes) { return is_device_memory(*m, p, bytes); }

bool emulator_copy(Machine* m, Copy kind, void* to, const void* from, size_t bytes, char* error, size_t size) {
  if (kind != Copy::FromDevice && !is_device_memory(*m, to, bytes)) {
    say("a copy to what is no device memory", error, size);
    return false;
  }
  if (kind != Copy::ToDevice && !is_device_memory(*m, from, bytes)) {
    say("a copy from what is no device memory", error, size);
    return false;
  }
  const size_t unwritten = kind == Copy::FromDevice ? first_unwritten(*m, from, bytes) : bytes;
  if (unwritten < bytes) {
    say(format("a copy to the host of device memory that nothing wrote: byte %zu of %zu", unwritten, bytes), error, size);
    return false;
  }
  memmove(to, from, bytes);
  if (kind == Copy::ToDevice) mark_initialised(*m, to, bytes);
  if (kind == Copy::Within) copy_initialised(*m, to, from, bytes);
  return true;
}

bool emulator_launch(Machine* m, const char* name, const Launch* launch, uint64_t seed, void** arguments,
                     const size_t* sizes, size_t count, char* error, size_t size) {
  const Kernel* kernel = find_kernel(name);
  const std::string why = refused(*m, kernel, name, *launch, sizes, count);
  if (!why.empty()) {
    say(why, error, size);
    return false;
  }
  machine = m;
  m->kernel = kernel;
  m->arguments = arguments;
  m->random = seed;
  m->first_block = m->block_number + 1;
  m->failed = false;
  m->errors.clear();
  m->reported.clear();
  run_blocks(*launch);
  machine = nullptr;
  if (!m->failed) return true;
  static const char* const policies[] = {"uniform", "priorities", "changing priorities"};
  say(format("%s, seed %llu, %s:\n", name, (unsigned long long)seed, policies[(int)m->policy]) + with_lines(m->errors),
      error, size);
  return false;
}

// The sizes of a kernel's arguments, `most` of them at most. Returns how many there are; -1: no such kernel.
int emulator_argument_bytes(const char* name, size_t* sizes, int most) {
  const Kernel* kernel = find_kernel(name);
  if (!kernel) return -1;
  int count = 0;
  for (const Argument& argument : kernel->arguments) {
    if (count < most) sizes[count] = argument.bytes;
    count++;
  }
  return count;
}

// The types of a kernel's arguments, as Rust writes them, with a comma and a space between.
bool emulator_signature(const char* name, char* text, size_t size) {
  const Kernel* kernel = find_kernel(name);
  if (!kernel) return false;
  std::string types;
  for (const Argument& argument : kernel->arguments) types += (types.empty() ? "" : ", ") + argument.type;
  say(types, text, size);
  return true;
}
}
