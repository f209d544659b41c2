#include "registry.h"

namespace simt {

// Kernels register themselves before main, in any order.
static std::vector<Kernel>& kernels() {
  static std::vector<Kernel> all;
  return all;
}

void register_kernel(Kernel kernel) { kernels().push_back(std::move(kernel)); }

const Kernel* find_kernel(const char* name) {
  for (const Kernel& kernel : kernels()) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

}  // namespace simt
