/* LD_PRELOAD: the time of day, shifted by the seconds that the file CLOCK_JUMP_FILE holds; asked at every call. The
 * steady clock stays. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(call) ((__typeof__(&call))dlsym(RTLD_NEXT, #call))

static long shift(void) {
  const char* path = getenv("CLOCK_JUMP_FILE");
  char text[32] = "";
  const int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  if (read(file, text, sizeof text - 1) < 0) text[0] = '\0';
  close(file);
  return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec* now) {
  const int code = REAL(clock_gettime)(clock, now);
  if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
  return code;
}

int gettimeofday(struct timeval* now, void* zone) {
  const int code = REAL(gettimeofday)(now, zone);
  if (code == 0) now->tv_sec += shift();
  return code;
}

time_t time(time_t* out) {
  const time_t now = REAL(time)(NULL) + shift();
  if (out != NULL) *out = now;
  return now;
}
