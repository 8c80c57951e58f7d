// Work that one rank does for all, with its failure shared.
#pragma once

#include <functional>

#include "comm/communicator.hpp"

namespace vixen {

/// Rank 0 calls `work`; the others wait. A UserError of rank 0 is thrown, with the same message, on every rank.
/// Collective.
void on_root(Communicator& comm, const std::function<void()>& work);

/// Every rank calls `work`; if it throws a UserError on some, the message of the lowest such rank is thrown on all.
/// Collective.
void on_every_rank(Communicator& comm, const std::function<void()>& work);

}  // namespace vixen
