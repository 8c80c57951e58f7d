// What the pretend device writes down: counts and faults. One lock guards everything of the device.
#pragma once

#include <mutex>
#include <string>

#include "pretend/pretend_device.hpp"

namespace vixen::pretend {

/// Held while the state of the device is looked at or changed.
std::recursive_mutex& device_lock();

/// The counts, to be changed under the lock.
Counts& ledger();

/// Adds a fault with the calls that lead here.
void add_fault(FaultKind kind, std::string what);

/// The same if this thread is in a step.
void add_fault_in_step(FaultKind kind, const std::string& what);

}  // namespace vixen::pretend
