// Stacks that numerical libraries can work on.
#include "base/stack.hpp"

#include <pthread.h>
#include <sys/resource.h>

#include "base/check.hpp"

namespace vixen {
namespace {

constexpr size_t kStackBytes = size_t{8} << 20;  // the usual limit

struct Call {
  const std::function<int()>& body;
  int result = 0;
};

void* run_call(void* argument) {
  auto* call = static_cast<Call*>(argument);
  call->result = call->body();
  return nullptr;
}

}  // namespace

int run_with_enough_stack(const std::function<int()>& body) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kStackBytes) return body();
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return body();
  const bool set =
      pthread_attr_setstacksize(&attributes, kStackBytes) == 0 && pthread_setattr_default_np(&attributes) == 0;
  Call call{body};
  pthread_t thread = {};
  // Without the thread (`ulimit -u`, no memory) the small stack has to do.
  const bool started = set && pthread_create(&thread, &attributes, run_call, &call) == 0;
  pthread_attr_destroy(&attributes);
  if (!started) return body();
  pthread_join(thread, nullptr);
  return call.result;
}

}  // namespace vixen
