// Shared failure of work done by one or all ranks.
#include "comm/on_root.hpp"

#include <filesystem>
#include <string>

#include "base/check.hpp"
#include "base/file.hpp"

namespace vixen {
namespace {

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const UserError& error) {
    return error.what();
  } catch (const std::filesystem::filesystem_error& error) {
    if (const auto message = said_by_system(error)) return *message;
    throw;
  }
  return {};
}

}  // namespace

void on_root(Communicator& comm, const std::function<void()>& work) {
  const auto message = comm.broadcast_host(comm.rank() == 0 ? message_of(work) : std::string(), 0);
  if (!message.empty()) throw UserError(message);
}

void on_every_rank(Communicator& comm, const std::function<void()>& work) {
  const auto own = message_of(work);
  if (comm.sum_host(static_cast<int64_t>(!own.empty())) == 0) return;
  for (const auto& message : comm.all_gather_host(own))
    if (!message.empty()) throw UserError(message);
}

}  // namespace vixen
