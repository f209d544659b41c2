// What went wrong, and where.
#include "machine.h"

#include <dlfcn.h>

namespace simt {

constexpr int MOST_REPORTS = 16;

static void add(Site site, const char* format, va_list arguments) {
  char text[1024];
  vsnprintf(text, sizeof text, format, arguments);
  machine->errors += text;
  if (site) {
    snprintf(text, sizeof text, " [pc %p]", site);
    machine->errors += text;
  }
  machine->errors += '\n';
  machine->failed = true;
}

void fail(Site site, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  add(site, format, arguments);
  va_end(arguments);
  Thread* thread = running();
  current = nullptr;
  switch_fibers(thread->fiber, machine->main);
  __builtin_unreachable();
}

void report(Site site, int kind, const char* format, ...) {
  if (machine->reported[{site, kind}]++ || machine->reported.size() > MOST_REPORTS) return;
  va_list arguments;
  va_start(arguments, format);
  add(site, format, arguments);
  va_end(arguments);
}

// "kernels/a.cuh:12 <- kernels/b.cu:40" for an address, innermost first, if binutils' addr2line is there; else nothing.
static std::string lines_of(Site site) {
  Dl_info object;
  if (!dladdr(site, &object) || !object.dli_fname) return "";
  char command[512];
  const size_t offset = (const char*)site - (const char*)object.dli_fbase - 1;
  snprintf(command, sizeof command, "addr2line -i -e '%s' %#zx 2>/dev/null", object.dli_fname, offset);
  FILE* pipe = popen(command, "r");
  if (!pipe) return "";
  std::string lines;
  char line[512];
  while (fgets(line, sizeof line, pipe)) {
    line[strcspn(line, "\n(")] = 0;
    const char* emulator = strstr(line, "runtime/");
    const char* folder = strstr(line, "kernels/");
    if (emulator || !folder) continue;
    while (const char* later = strstr(folder + 1, "kernels/")) folder = later;
    if (!lines.empty()) lines += " <- ";
    lines += folder;
  }
  pclose(pipe);
  while (!lines.empty() && lines.back() == ' ') lines.pop_back();
  return lines;
}

std::string with_lines(std::string text) {
  for (size_t at = 0; (at = text.find("[pc 0x", at)) != std::string::npos; at++) {
    const size_t end = text.find(']', at);
    const std::string lines = lines_of((Site)strtoull(text.c_str() + at + 4, nullptr, 16));
    if (!lines.empty()) text.replace(at, end - at + 1, "[" + lines + "]");
  }
  return text;
}

}  // namespace simt
