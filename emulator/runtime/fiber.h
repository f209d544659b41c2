// A thread of a kernel is a fiber: a stack, and where it stands. Switching takes some nanoseconds on x86-64, and a system
// call elsewhere.
#pragma once
#include <cstddef>

#include "sanitizers.h"

#if !defined(__x86_64__) || defined(EMULATOR_UCONTEXT)
  #define FIBERS_BY_UCONTEXT 1
  #include <ucontext.h>
#endif

namespace simt {

// A sanitizer puts gaps between what is on it.
constexpr size_t STACK_BYTES = SANITIZED ? 256 << 10 : 64 << 10;

struct Fiber {
  unsigned char* stack;
#if FIBERS_BY_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer;
#endif
#ifdef EMULATOR_SANITIZED
  void (*entry)();
  void* kept;  // by the sanitizer, of one that does not run
  const void* bottom;
  size_t bytes;
#endif
};

// Makes the fiber begin with `entry`, which must not return.
void prepare(Fiber& fiber, void (*entry)());
void switch_fibers(Fiber& from, Fiber& to);

}  // namespace simt
