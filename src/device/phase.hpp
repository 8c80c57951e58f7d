// Named ranges of the host's time for profilers: NVTX in builds with CUDA, where Nsight Systems draws them over what
// the GPU does (docs/gpu.md); nothing elsewhere.
#pragma once

namespace vixen {

/// A range from here to the end of the scope, of this thread. Names are literals. Costs nanoseconds where no profiler
/// listens.
class Phase {
 public:
  explicit Phase(const char* name) { begin(name); }
  ~Phase() { end(); }
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

  /// Ends the range, and begins another in its place.
  void next(const char* name) {
    end();
    begin(name);
  }

 private:
  static void begin(const char* name);
  static void end();
};

}  // namespace vixen
