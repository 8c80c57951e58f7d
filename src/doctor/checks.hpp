// The checks of `vixen doctor`. A new one is a function in a file of this folder and a row in checks.cpp.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "comm/session.hpp"
#include "config/config.hpp"
#include "doctor/finding.hpp"

namespace vixen {

/// What a check may look at.
struct Patient {
  const Config& config;
  MpiSession& session;
  Communicator& host;  // over all ranks, by MPI
  /// The communicator over the ranks' GPUs; null where there are none, or it did not come up.
  std::shared_ptr<Communicator> gpus = {};
};

struct Check {
  const char* part;  // heading of its findings
  /// This rank's findings. Every rank makes the same number of collective calls. What it throws is a finding too.
  Findings (*run)(Patient& patient);
};

std::span<const Check> doctor_checks();

Findings check_versions(Patient& patient);
Findings check_cpus(Patient& patient);
Findings check_memory(Patient& patient);
Findings check_ranks(Patient& patient);
Findings check_collectives(Patient& patient);
Findings check_files(Patient& patient);
Findings check_search(Patient& patient);
Findings check_kernels(Patient& patient);
Findings check_training_kernels(Patient& patient);
Findings check_gpus(Patient& patient);
Findings check_rates(Patient& patient);

}  // namespace vixen
