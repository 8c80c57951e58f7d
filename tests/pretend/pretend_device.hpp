// A pretend accelerator for tests, on ATen's free device slot (PrivateUse1): whole training without a GPU, under the
// rules of one.
//
// Operators run on the CPU over the same memory, so that they give the CPU's bits. What a GPU would take offence at is
// a fault here:
//   - host code that reads or writes memory of the device (SIGSEGV), operands on different devices (c10::Error);
//   - within a step (InStep): the host waits for the device (item(), operators whose result has a size that depends on
//     values, copies that block), or copies from or to pageable memory;
//   - at any time: a tensor is used on another stream than it was made or written on without an event between, memory
//   goes
//     back to its stream while another may still use it (record_stream), pinned memory is rewritten while it is copied
//     up.
// What is copied down to pinned memory arrives when the host waits for it, and reads as 0xff bytes (NaN) until then.
// Which operators wait is a list after those of CUDA in torch 2.11 under deterministic algorithms (operators.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vixen::pretend {

/// The only device of its kind: pretend:0. The first call registers it; call it before the first tensor on it.
at::Device device();

/// What has happened since the start of the process, on all threads.
struct Counts {
  int64_t operators = 0;
  int64_t product_bytes = 0;                             // operands that matrix products read, and results
  int64_t moved_bytes = 0;                               // what other operators read and wrote on the device
  int64_t to_host_pinned = 0, to_host_pageable = 0;      // copies
  int64_t to_device_pinned = 0, to_device_pageable = 0;  // copies
  int64_t waits = 0;                                     // of the host for all that a stream has to do
  int64_t event_waits = 0;                               // of the host for an event: how far it runs ahead is bounded
};
Counts counts();

/// Bytes of tensors on the device, and the most since reset_peak_bytes().
int64_t bytes();
int64_t peak_bytes();
void reset_peak_bytes();
/// What the device says is free from now on.
void set_free_bytes(int64_t bytes);

enum class FaultKind { kWait, kPageableCopy, kUnordered, kFreed, kRewritten };
struct Fault {
  FaultKind kind;
  std::string what;   // the operator, and what is wrong with it
  std::string trace;  // vixen's functions that led to it, innermost first
};
/// The faults since the last call, in order.
std::vector<Fault> take_faults();
/// A line each; empty when there are none.
std::string text_of(const std::vector<Fault>& faults);

/// While it lives, waits and pageable copies of this thread are faults.
class InStep {
 public:
  InStep();
  ~InStep();
  InStep(const InStep&) = delete;
  InStep& operator=(const InStep&) = delete;
};

/// The memory of a tensor on the device as a CPU tensor, for what stands in for a library of the device. Orders
/// nothing.
at::Tensor host_view(const at::Tensor& tensor);

/// Work of such a library: it reads and writes these tensors on the current stream.
void launch(const char* name, at::TensorList reads, at::TensorList writes);

}  // namespace vixen::pretend
