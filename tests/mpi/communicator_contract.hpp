// What every Communicator promises, as the tests CommunicatorContract.*: each collective against what the ranks'
// inputs, known to all, must give. An executable on several ranks (rank_tests.hpp) that compiles
// communicator_contract.cpp runs them on its communicator.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/communicator.hpp"

namespace vixen::test {

/// The communicator that is tested, over all ranks; the executable defines it. Collective, once.
std::unique_ptr<Communicator> make_tested_communicator();

/// Elements that it sends or adds up at a time: some tests take several times as many. The executable defines it.
int64_t tested_piece_elements();

}  // namespace vixen::test
