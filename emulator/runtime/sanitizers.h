// What an address sanitizer must be told: which memory between objects is nobody's, and which stack runs. In the usual build
// there is none, and these do nothing.
#pragma once
#include <cstddef>

#ifdef EMULATOR_SANITIZED
  #include <sanitizer/asan_interface.h>
  #include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

#ifdef EMULATOR_SANITIZED
constexpr bool SANITIZED = true;
inline void close_off(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void open_up(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
constexpr bool SANITIZED = false;
inline void close_off(const void*, size_t) {}
inline void open_up(const void*, size_t) {}
#endif

}  // namespace simt
