/* LD_PRELOAD: the calls by which a process changes files whose paths hold a given text, numbered, and a kill -9 at one
 * of them, before it is made.
 *
 *   FILE_CALLS_OF    text in the path; without it nothing happens
 *   FILE_CALLS_RANK  of this rank of Open MPI alone (a process without one is rank 0)
 *   FILE_CALLS_LOG   file that every such call is appended to: "open PATH"
 *   FILE_CALLS_KILL  number, from 1, of the call that is not made any more
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(call) ((__typeof__(&call))dlsym(RTLD_NEXT, #call))

static atomic_int calls;

static void look(const char* call, const char* path) {
  const char* text = getenv("FILE_CALLS_OF");
  if (text == NULL || path == NULL || strstr(path, text) == NULL) return;
  const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *wanted = getenv("FILE_CALLS_RANK");
  if (wanted != NULL && strcmp(rank == NULL ? "0" : rank, wanted) != 0) return;
  const int number = atomic_fetch_add(&calls, 1) + 1;
  const char *log = getenv("FILE_CALLS_LOG"), *last = getenv("FILE_CALLS_KILL");
  if (log != NULL) {
    const int file = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    char line[4096];
    const int size = snprintf(line, sizeof line, "%s %s\n", call, path);
    if (file < 0 || write(file, line, (size_t)size) != size) abort();
    close(file);
  }
  if (last != NULL && atoi(last) == number) kill(getpid(), SIGKILL);
}

/* The mode that follows the flags where a file may be made. */
#define MODE_BEHIND(flags)                          \
  mode_t mode = 0;                                  \
  if ((flags & O_CREAT) != 0) {                     \
    va_list arguments;                              \
    va_start(arguments, flags);                     \
    mode = va_arg(arguments, mode_t);               \
    va_end(arguments);                              \
    look("open", path);                             \
  }

int open(const char* path, int flags, ...) {
  MODE_BEHIND(flags)
  return REAL(open)(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  MODE_BEHIND(flags)
  return REAL(open64)(path, flags, mode);
}

FILE* fopen(const char* path, const char* mode) {
  if (strchr(mode, 'w') != NULL) look("fopen", path);
  return REAL(fopen)(path, mode);
}

FILE* fopen64(const char* path, const char* mode) {
  if (strchr(mode, 'w') != NULL) look("fopen", path);
  return REAL(fopen64)(path, mode);
}

int fsync(int file) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  path[size > 0 ? size : 0] = '\0';
  look("fsync", path);
  return REAL(fsync)(file);
}

int mkdir(const char* path, mode_t mode) {
  look("mkdir", path);
  return REAL(mkdir)(path, mode);
}

int rename(const char* from, const char* to) {
  look("rename", from);
  return REAL(rename)(from, to);
}

int remove(const char* path) {
  look("remove", path);
  return REAL(remove)(path);
}
