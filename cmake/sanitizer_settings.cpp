// What the sanitizers of the preset `sanitize` are told, by the functions that their run-time libraries look for.

extern "C" {

const char* __asan_default_options() {
  return "detect_stack_use_after_return=1:strict_init_order=1:check_initialization_order=1:abort_on_error=0";
}

const char* __ubsan_default_options() {
  return "print_stacktrace=1";
}

// Allocated once by libraries that never free it.
const char* __lsan_default_suppressions() {
  return "leak:libmpi.so\n"
         "leak:libopen-rte.so\n"
         "leak:libopen-pal.so\n"
         "leak:libpmix.so\n"
         "leak:libhwloc.so\n"
         "leak:libtorch_cpu.so\n"
         "leak:libc10.so\n"
         "leak:libgomp\n"
         "leak:libopenblas\n";
}

const char* __lsan_default_options() {
  return "print_suppressions=0";
}

}  // extern "C"
