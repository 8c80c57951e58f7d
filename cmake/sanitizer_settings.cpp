// What the sanitizers of the preset `sanitize` are told, by the functions that their run-time libraries look for.
#include <stdlib.h>
#include <sys/resource.h>

extern "C" {

void __lsan_disable();
void __lsan_enable();

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
         "leak:libopenblas\n"
         "leak:faiss::read_index\n";  // what it had read when it throws
}

const char* __lsan_default_options() {
  return "print_suppressions=0";
}

// Where leaks are not looked for: in a process that may not write files (tests of full disks), which would be stuck
// printing them; between several ranks, where Open MPI's transports allocate as messages travel (see below).
int __lsan_is_turned_off() {
  rlimit limit = {};
  const char* ranks = getenv("OMPI_COMM_WORLD_SIZE");
  return (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) ||
         (ranks != nullptr && atoi(ranks) > 1);
}

// Open MPI unloads its parts in the end, so that what they never freed cannot be suppressed by their names: it is not
// counted in the first place. These stand in MPI's place, as its profiling interface allows; programs without MPI have
// no PMPI_*.
int PMPI_Init_thread(int*, char***, int, int*) __attribute__((weak));
int PMPI_Finalize() __attribute__((weak));
int PMPI_Comm_dup(void*, void**) __attribute__((weak));
int PMPI_Comm_split_type(void*, int, int, void*, void**) __attribute__((weak));

int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  __lsan_disable();
  const int result = PMPI_Init_thread(argc, argv, required, provided);
  __lsan_enable();
  return result;
}

int MPI_Finalize() {
  __lsan_disable();
  const int result = PMPI_Finalize();
  __lsan_enable();
  return result;
}

int MPI_Comm_dup(void* comm, void** made) {
  __lsan_disable();
  const int result = PMPI_Comm_dup(comm, made);
  __lsan_enable();
  return result;
}

int MPI_Comm_split_type(void* comm, int type, int key, void* info, void** made) {
  __lsan_disable();
  const int result = PMPI_Comm_split_type(comm, type, key, info, made);
  __lsan_enable();
  return result;
}

}  // extern "C"
