#include "fiber.h"

#if FIBERS_BY_UCONTEXT

namespace simt {

static void set_up(Fiber& fiber, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = STACK_BYTES;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

static void jump(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

}  // namespace simt

#else

// Saves the registers that a call preserves on the stack that is left, and takes them from the other.
extern "C" void emulator_switch_stacks(void** save, void* to);
asm(R"(
.text
.globl emulator_switch_stacks
.type emulator_switch_stacks, @function
emulator_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch_stacks, .-emulator_switch_stacks
.section .note.GNU-stack, "", @progbits
.text
)");

namespace simt {

static void set_up(Fiber& fiber, void (*entry)()) {
  constexpr int SAVED_REGISTERS = 6;
  void** top = (void**)(fiber.stack + STACK_BYTES);
  *--top = nullptr;  // where `entry` would return to
  *--top = (void*)entry;
  for (int i = 0; i < SAVED_REGISTERS; i++) *--top = nullptr;
  fiber.stack_pointer = top;
}

static void jump(Fiber& from, Fiber& to) { emulator_switch_stacks(&from.stack_pointer, to.stack_pointer); }

}  // namespace simt

#endif

namespace simt {

#ifdef EMULATOR_SANITIZED

static thread_local Fiber *left, *entered;

// On the new stack: tells the sanitizer that it is there, and learns from it where the old one was, which of the host's own
// thread nobody else knows.
static void arrive() {
  __sanitizer_finish_switch_fiber(entered->kept, &left->bottom, &left->bytes);
  entered->kept = nullptr;
}

static void begin() {
  arrive();
  entered->entry();
}

void prepare(Fiber& fiber, void (*entry)()) {
  // Whoever was on it before need not have returned from every function.
  open_up(fiber.stack, STACK_BYTES);
  fiber.entry = entry;
  fiber.kept = nullptr;
  fiber.bottom = fiber.stack;
  fiber.bytes = STACK_BYTES;
  set_up(fiber, begin);
}

void switch_fibers(Fiber& from, Fiber& to) {
  left = &from;
  entered = &to;
  __sanitizer_start_switch_fiber(&from.kept, to.bottom, to.bytes);
  jump(from, to);
  arrive();
}

#else

void prepare(Fiber& fiber, void (*entry)()) { set_up(fiber, entry); }
void switch_fibers(Fiber& from, Fiber& to) { jump(from, to); }

#endif

}  // namespace simt
