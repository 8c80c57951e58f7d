// Runs a target on mutated inputs without a fuzzing engine: input i is a pure function of (kind, seed, i). A worker
// process reads them; this one watches it, so that a crash or a hang is one more fault and not the end.
//
//   fuzz_readers KIND [--count N] [--seconds S] [--seed N] [--keep FOLDER]    prints a line of a table
//   fuzz_readers KIND --replay FILE...                                        each is accepted or refused
//   fuzz_readers KIND --write-seeds FOLDER
//   fuzz_readers --kinds
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/file.hpp"
#include "fuzz/target.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define VIXEN_FUZZ_SANITIZED 1
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=2048:handle_abort=1";
}
#endif
#endif

namespace vixen::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMostSeconds = 10;                 // an input that takes longer hangs
constexpr uint64_t kMostBytes = uint64_t{2} << 30;  // memory beyond the worker's own
constexpr size_t kMostInputBytes = size_t{4} << 20;
constexpr size_t kMostFaults = 10000;  // kept; more are counted

struct Options {
  const Target* target = nullptr;
  uint64_t count = 20000, seed = 1;
  double seconds = 1e9;
  std::filesystem::path keep;  // where inputs with faults go; empty: nowhere
};

struct Fault {
  uint64_t index = 0;
  char message[240] = {};
};

// Lies in memory that the worker and the watcher share.
struct Progress {
  std::atomic<uint64_t> index{0};  // the input under test
  std::atomic<int64_t> started_ms{0};
  std::atomic<uint64_t> accepted{0}, refused{0}, n_faults{0};
  char trace[160] = {};  // where the worker fell, said by itself
  Fault faults[kMostFaults];

  void add(uint64_t at, const std::string& message) {
    const uint64_t number = n_faults.fetch_add(1);
    if (number >= kMostFaults) return;
    faults[number].index = at;
    std::snprintf(faults[number].message, sizeof faults[number].message, "%s", message.c_str());
  }
};

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch()).count();
}

// The first inputs are the seeds themselves.
std::string make_input(const Target& target, const std::vector<std::string>& seeds, uint64_t seed, uint64_t index) {
  if (index < seeds.size()) return seeds[index];
  Random random(seed * 0x9e3779b97f4a7c15u + index);
  std::string input = random.one_of(seeds);
  const size_t steps = 1 + random.below(random.one_in(3) ? 12 : 3);
  for (size_t i = 0; i < steps && input.size() < kMostInputBytes; ++i) input = target.mutate(input, random);
  return input;
}

// The calls under a crash, or under the watcher's request of a worker that hangs, into `trace`: enough to tell faults
// apart. Not safe in a signal handler by the book; the process ends behind it either way.
Progress* shared = nullptr;
void note_calls() {
  void* frames[32];
  const int count = backtrace(frames, 32);
  size_t used = 0;
  int named = 0;
  for (int i = 2; i < count && named < 4; ++i) {
    Dl_info info;
    if (dladdr(frames[i], &info) == 0 || info.dli_sname == nullptr) continue;
    const std::string_view name = info.dli_sname;
    if (name.starts_with("__") || name.starts_with("_ZN6__asan") || name.starts_with("_ZN11__sanitizer") ||
        name.starts_with("_ZN7__ubsan"))
      continue;  // of the C library and the sanitizers
    const int status = std::snprintf(shared->trace + used, sizeof shared->trace - used, " < %.36s", info.dli_sname);
    used = std::min(used + static_cast<size_t>(std::max(status, 0)), sizeof shared->trace - 1);
    ++named;
  }
}

void on_signal(int signal) {
  note_calls();
  std::signal(signal, SIG_DFL);
  raise(signal);
}

void catch_crashes() {
#ifdef VIXEN_FUZZ_SANITIZED
  __sanitizer_set_death_callback(note_calls);
  std::signal(SIGXCPU, on_signal);
#else
  static char other_stack[1 << 16];  // for a stack that ran over
  stack_t stack = {};
  stack.ss_sp = other_stack;
  stack.ss_size = sizeof other_stack;
  sigaltstack(&stack, nullptr);
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGXCPU}) sigaction(signal, &action, nullptr);
#endif
}

uint64_t data_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmData:") {
      uint64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes << 10;
    }
  return 0;
}

void limit_worker() {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  at::set_num_threads(1);
#ifndef VIXEN_FUZZ_SANITIZED  // whose shadow memory counts too; it has a limit of its own
  const rlimit memory{data_bytes() + kMostBytes, data_bytes() + kMostBytes};
  setrlimit(RLIMIT_DATA, &memory);
#endif
}

[[noreturn]] void work(const Options& options, Progress& progress, uint64_t first, Clock::time_point end) {
  limit_worker();
  catch_crashes();
  const auto seeds = options.target->seeds();
  for (uint64_t i = first; i < options.count && Clock::now() < end; ++i) {
    const std::string input = make_input(*options.target, seeds, options.seed, i);
    progress.started_ms = now_ms();
    progress.index = i;
    try {
      const bool accepted = is_accepted(*options.target, input);
      ++(accepted ? progress.accepted : progress.refused);
      if (!accepted && i < seeds.size()) progress.add(i, "a seed was refused");
    } catch (const std::exception& error) {
      progress.add(i, error.what());
    }
  }
  std::fflush(nullptr);
  _exit(0);
}

// Runs `body`, which ends the process, in one of its own.
template <typename Body>
pid_t fork_to(const Body& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "fuzz_readers: worker: %s\n", error.what());
    }
    _exit(1);  // never this process' way out, which would remove scratch()
  }
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  return child;
}

int watch(pid_t worker, const Progress& progress, bool& hung) {
  while (true) {
    int status = 0;
    if (waitpid(worker, &status, WNOHANG) == worker) return status;
    const int64_t started = progress.started_ms;
    if (started > 0 && static_cast<double>(now_ms() - started) > kMostSeconds * 1000) {
      kill(worker, hung ? SIGKILL : SIGXCPU);  // first to say where it is
      hung = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// HDF5 1.10 checks neither the objects of a global heap (where strings of any length lie) nor the references to them,
// nor every length and address of its metadata, and frees what it did not read when an object header is damaged: it
// crashes or hangs inside the library, before any of our checks can be asked. Reading values (H5D) is not meant.
bool is_known(std::string_view message) {
  for (const char* part : {"< H5HG_", "< H5A_", "< H5O_", "< H5SM_", "< H5C_protect"})
    if (message.find(part) != message.npos) return true;
  return false;
}

// Faults of one kind: the message without its numbers and names.
std::string signature(const std::string& message) {
  std::string text;
  for (const char c : message.substr(0, message.find('\n'))) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit || text.empty() || text.back() != '#') text += digit ? '#' : c;
  }
  return text.substr(0, 160);
}

void keep_input(const Options& options, uint64_t index) {
  if (options.keep.empty()) return;
  std::filesystem::create_directories(options.keep);
  const auto path = options.keep / fmt::format("{}-{}-{}", options.target->name, options.seed, index);
  const pid_t child = fork_to([&] {  // seeds are made with libraries that this process must not start
    write_text_atomically(path, make_input(*options.target, options.target->seeds(), options.seed, index));
    _exit(0);
  });
  waitpid(child, nullptr, 0);
}

int run(const Options& options) {
  void* memory = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  auto& progress = *new (memory) Progress;
  shared = &progress;
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(std::min(options.seconds, 1e6)));
  scratch();  // made here, so that the workers share it and this process removes it
  for (uint64_t first = 0; first < options.count && Clock::now() < end;) {
    progress.started_ms = 0;
    const pid_t worker = fork_to([&] { work(options, progress, first, end); });
    bool hung = false;
    const int status = watch(worker, progress, hung);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
    const std::string what = hung                  ? fmt::format("no answer within {} s", kMostSeconds)
                             : WIFSIGNALED(status) ? fmt::format("crash: {}", strsignal(WTERMSIG(status)))
                                                   : fmt::format("crash: exit code {}", WEXITSTATUS(status));
    progress.add(progress.index, what + progress.trace);
    progress.trace[0] = '\0';
    if (progress.started_ms == 0) throw std::logic_error("the worker fell before its first input");
    first = progress.index + 1;
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const uint64_t n_faults = progress.n_faults;
  const uint64_t n_listed = std::min<uint64_t>(n_faults, kMostFaults);
  const auto n_known = static_cast<uint64_t>(std::count_if(progress.faults, progress.faults + n_listed,
                                                           [](const Fault& fault) { return is_known(fault.message); }));
  fmt::print("{:<14} {:>8} {:>9} {:>9} {:>7} {:>7} {:>8.1f}\n", options.target->name,
             progress.accepted + progress.refused + n_faults, progress.accepted.load(), progress.refused.load(),
             n_known, n_faults - n_known, seconds);
  std::map<std::string, std::vector<const Fault*>> kinds;
  for (uint64_t i = 0; i < n_listed; ++i) kinds[signature(progress.faults[i].message)].push_back(&progress.faults[i]);
  for (const auto& [text, faults] : kinds) {
    std::string message = faults.front()->message;
    std::replace(message.begin(), message.end(), '\n', ' ');
    fmt::print("  {}{} x, first input {}: {}\n", is_known(message) ? "known: " : "", faults.size(),
               faults.front()->index, message);
    for (size_t i = 0; i < std::min<size_t>(faults.size(), 3); ++i) keep_input(options, faults[i]->index);
  }
  return n_faults > n_known ? 1 : 0;
}

int replay(const Target& target, const std::vector<std::string>& files) {
  int rc = 0;
  limit_worker();
  target.seeds();  // some targets read beside what their seeds wrote
  for (const auto& file : files) {
    try {
      fmt::print("{}: {}\n", file, is_accepted(target, read_text(file)) ? "accepted" : "refused");
    } catch (const std::exception& error) {
      fmt::print("{}: FAULT: {}\n", file, error.what());
      rc = 1;
    }
    std::fflush(stdout);
  }
  return rc;
}

int write_seeds(const Target& target, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const auto seeds = target.seeds();
  for (size_t i = 0; i < seeds.size(); ++i) write_text_atomically(folder / fmt::format("seed-{}", i), seeds[i]);
  return 0;
}

int usage() {
  std::fputs(
      "usage: fuzz_readers KIND [--count N] [--seconds S] [--seed N] [--keep FOLDER] | KIND --replay FILE... | "
      "KIND --write-seeds FOLDER | --kinds\n",
      stderr);
  return 2;
}

int start(const std::vector<std::string>& arguments) {
  if (arguments.size() == 1 && arguments[0] == "--kinds") {
    for (const Target& target : all_targets()) fmt::print("{}\n", target.name);
    return 0;
  }
  Options options;
  options.target = arguments.empty() ? nullptr : find_target(arguments[0]);
  if (options.target == nullptr) return usage();
  for (size_t i = 1; i < arguments.size(); i += 2) {
    const std::string& name = arguments[i];
    if (name == "--replay")
      return replay(*options.target, {arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end()});
    if (i + 1 == arguments.size()) return usage();
    const std::string& value = arguments[i + 1];
    if (name == "--write-seeds") return write_seeds(*options.target, value);
    if (name == "--count")
      options.count = std::stoull(value);
    else if (name == "--seconds")
      options.seconds = std::stod(value);
    else if (name == "--seed")
      options.seed = std::stoull(value);
    else if (name == "--keep")
      options.keep = value;
    else
      return usage();
  }
  return run(options);
}

}  // namespace
}  // namespace vixen::fuzz

int main(int argc, char** argv) {
  try {
    return vixen::fuzz::start({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz_readers: %s\n", error.what());
    return 1;
  }
}
