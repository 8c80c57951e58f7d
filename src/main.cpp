// vixen: picks the command, opens the session, maps exceptions to exit codes (0 done, 2 the user's mistake, 75 stopped
// on request, 1 anything else).
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/stack.hpp"
#include "base/standard_streams.hpp"
#include "base/stop.hpp"
#include "base/version.hpp"
#include "commands/commands.hpp"
#include "commands/mistake.hpp"
#include "config/parse.hpp"

namespace vixen {
namespace {

constexpr int kUserMistake = 2;
constexpr int kStopped = 75;
constexpr int kBug = 1;

int run_command(const ParsedCommand& parsed, MpiSession& session) {
  const std::map<std::string, std::function<int()>> commands = {
      {"train", [&] { return train_command(parsed.config, session); }},
      {"embed", [&] { return embed_command(parsed.config, session); }},
      {"search", [&] { return search_command(parsed.config, session); }},
      {"evaluate", [&] { return evaluate_command(parsed.config, session); }},
      {"predict", [&] { return predict_command(parsed.config, session); }},
      {"mine", [&] { return mine_command(parsed.config, session); }},
      {"export", [&] { return export_command(parsed.config, session); }},
      {"plan", [&] { return plan_command(parsed.config, session); }},
      {"inspect", [&] { return inspect_command(parsed.config, parsed.positional, session); }},
      {"bench", [&] { return bench_command(parsed.config, session); }},
      {"doctor", [&] { return doctor_command(parsed.config, session); }},
  };
  return commands.at(parsed.config.command)();
}

int run_job(const ParsedCommand& parsed, int argc, char** argv) {
  MpiSession session(&argc, &argv, parsed.config.device == DeviceKind::kCuda);
  init_log(session.rank(), session.world_size(), parsed.config.run.log_level);
  show_stages(session.rank() == 0);
  if (session.rank() == 0)
    for (const auto& warning : parsed.warnings) spdlog::warn("{}", warning);
  constexpr double kAgreementSeconds = 1.5;  // how long a rank that failed waits for the others to say the same
  session.watch_ranks(parsed.config.comm.deadline_seconds, parsed.config.comm.file_deadline_seconds);
  const auto control =
      session.world_size() > 1 ? session.make_communicator(DeviceKind::kCpu, kAgreementSeconds) : nullptr;
  try {
    return run_command(parsed, session);
  } catch (const UserError& error) {
    return report_mistake(session, control.get(), error.what(), kUserMistake);
  } catch (const std::filesystem::filesystem_error& error) {
    if (const auto message = said_by_system(error))
      return report_mistake(session, control.get(), UserError(*message).what(), kUserMistake);
    session.abort(kBug, error.what(), Fault::kOwn);
  } catch (const StoppedOnRequest&) {
    return kStopped;
  } catch (const CommError& error) {
    session.abort(kBug, error.what(), Fault::kCollective);
  } catch (const std::exception& error) {
    session.abort(kBug, error.what(), Fault::kOwn);
  }
}

int run_command_line(int argc, char** argv, bool& excerpts) {
  try {
    const ParsedCommand parsed = parse_command_line(argc, argv);
    const bool text_only = parsed.help || parsed.version || parsed.print_config;
    excerpts = text_only || parsed.config.command == "inspect" || parsed.config.command == "plan";
    if (!text_only) return run_job(parsed, argc, argv);
    print_text(parsed.help      ? help_text(parsed.config.command)
               : parsed.version ? fmt::format("vixen {}\n", version())
                                : parsed.resolved_text);
    return 0;
  } catch (const std::exception& error) {
    print_early(error.what());
    return dynamic_cast<const UserError*>(&error) != nullptr ? kUserMistake : kBug;
  }
}

}  // namespace
}  // namespace vixen

int main(int argc, char** argv) {
  vixen::prepare_standard_streams();
  bool excerpts = false;  // texts that people read the beginning of
  const int code = vixen::run_with_enough_stack([&] { return vixen::run_command_line(argc, argv, excerpts); });
  return vixen::finish_standard_output(code, vixen::kUserMistake, excerpts);
}
