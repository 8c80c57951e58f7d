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
  VIXEN_CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, kStackBytes) == 0 &&
                  pthread_setattr_default_np(&attributes) == 0,
              "a default stack of {} bytes", kStackBytes);
  Call call{body};
  pthread_t thread = {};
  VIXEN_CHECK(pthread_create(&thread, &attributes, run_call, &call) == 0, "a thread with a stack of {} bytes",
              kStackBytes);
  VIXEN_CHECK(pthread_join(thread, nullptr) == 0, "pthread_join");
  pthread_attr_destroy(&attributes);
  return call.result;
}

}  // namespace vixen
