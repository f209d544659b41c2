// A thread of a kernel is a fiber: a stack, and where it stands. Switching takes some nanoseconds on x86-64, and a system
// call elsewhere.
#pragma once
#include <cstddef>

#if !defined(__x86_64__) || defined(EMULATOR_UCONTEXT)
  #define FIBERS_BY_UCONTEXT 1
  #include <ucontext.h>
#endif

namespace simt {

constexpr size_t STACK_BYTES = 64 << 10;

struct Fiber {
  unsigned char* stack;
#if FIBERS_BY_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer;
#endif
};

// Makes the fiber begin with `entry`, which must not return.
void prepare(Fiber& fiber, void (*entry)());
void switch_fibers(Fiber& from, Fiber& to);

}  // namespace simt
