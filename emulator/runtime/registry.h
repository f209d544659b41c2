// Kernels by name, with the types of their arguments: what EXPORT_KERNEL leaves behind.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace simt {

// A type as Rust writes it; a struct by its name.
template <class T> struct TypeName {
  static std::string get() {
    const std::string text = __PRETTY_FUNCTION__;  // "... [with T = Name; std::string = ...]"
    const size_t start = text.find("T = ") + 4;
    return text.substr(start, text.find_first_of(";]", start) - start);
  }
};
template <> struct TypeName<float> {
  static std::string get() { return "f32"; }
};
template <> struct TypeName<double> {
  static std::string get() { return "f64"; }
};
template <> struct TypeName<int32_t> {
  static std::string get() { return "i32"; }
};
template <> struct TypeName<uint32_t> {
  static std::string get() { return "u32"; }
};
template <> struct TypeName<unsigned long> {
  static std::string get() { return "u64"; }
};
template <> struct TypeName<unsigned long long> {
  static std::string get() { return "u64"; }
};
template <class T> struct TypeName<const T> {
  static std::string get() { return TypeName<T>::get(); }
};
template <class T> struct TypeName<T*> {
  static std::string get() { return (std::is_const<T>::value ? "*const " : "*mut ") + TypeName<T>::get(); }
};

struct Argument {
  size_t bytes;
  std::string type;
};

struct Kernel {
  std::string name;
  std::vector<Argument> arguments;
  void (*function)();
  // Calls `function` with the arguments that the pointers lead to.
  void (*call)(void (*function)(), void** arguments);
};

void register_kernel(Kernel kernel);
const Kernel* find_kernel(const char* name);

class Registration {
 public:
  template <class... A> Registration(const char* name, void (*kernel)(A...)) {
    register_kernel({name, {Argument{sizeof(A), TypeName<A>::get()}...}, (void (*)())kernel, call<A...>});
  }

 private:
  template <class... A> static void call(void (*function)(), void** arguments) {
    call_with<A...>((void (*)(A...))function, arguments, std::index_sequence_for<A...>());
  }
  template <class... A, size_t... I>
  __attribute__((no_sanitize("thread"))) static void call_with(void (*kernel)(A...), void** arguments,
                                                               std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)arguments[I]...);
  }
};

}  // namespace simt
