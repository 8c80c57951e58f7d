// vixen doctor: is this machine, or this allocation, sound? One table; exit code 1 when something is wrong.
#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/standard_streams.hpp"
#include "base/version.hpp"
#include "comm/on_root.hpp"
#include "commands/commands.hpp"
#include "commands/numerics.hpp"
#include "commands/preflight.hpp"
#include "doctor/checks.hpp"
#include "doctor/report.hpp"

namespace vixen {

int doctor_command(const Config& config, MpiSession& session) {
  const int asked = static_cast<int>(config.threads);
  Config on_host = config;
  on_host.device = DeviceKind::kCpu;  // that there is no GPU is a finding, not an end
  set_numerics(on_host, session.local_rank(), asked > 0 ? asked : session.cpus().threads());
  const auto host = session.make_communicator(DeviceKind::kCpu, session.patience());
  on_root(*host, [&] { preflight(config); });
  Patient patient{config, session, *host};
  const bool root = host->rank() == 0;

  nlohmann::ordered_json report = {{"created_by", created_by("doctor")}, {"ranks", host->world_size()}};
  auto& parts = report["parts"] = nlohmann::ordered_json::array();
  int64_t wrong = 0, notes = 0;
  for (const Check& check : doctor_checks()) {
    RankFindings own{session.host(), {}};
    {
      const Stage stage(fmt::format("doctor: {}", check.part));
      own.findings = check.run(patient);
    }
    std::vector<RankFindings> all;
    for (const auto& bytes : host->all_gather_host(to_bytes(own))) all.push_back(from_bytes(bytes));
    const auto merged = merge_findings(all);
    auto rows = nlohmann::ordered_json::array();
    if (root) print_out("{}\n", check.part);
    for (const auto& one : merged) {
      wrong += one.finding.health == Health::kBad;
      notes += one.finding.health == Health::kNote;
      if (root) print_text(finding_text(one, host->world_size()));
      rows.push_back(finding_json(one));
    }
    parts.push_back({{"part", check.part}, {"findings", rows}});
    flush_output();
  }
  report["wrong"] = wrong;
  report["notes"] = notes;
  if (root) {
    print_out("{}\n", wrong == 0 ? fmt::format("Nothing wrong{}.", notes == 0 ? "" : fmt::format(", {} to note", notes))
                                 : fmt::format("{} wrong, {} to note.", wrong, notes));
    if (!config.out.empty()) write_text_atomically(config.out, report.dump(2) + "\n");
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace vixen
