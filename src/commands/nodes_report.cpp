#include "commands/nodes_report.hpp"

#include <fmt/format.h>

#include <cstdint>

#include "base/text.hpp"
#include "commands/text_table.hpp"

namespace vixen {
namespace {

// Exchanges of one name and collective, which follow one another.
struct Sent {
  const Exchange* exchange = nullptr;
  int64_t calls = 0, most_bytes = 0, total_bytes = 0;
};

std::vector<Sent> by_name(const std::vector<Traffic>& traffic) {
  std::vector<Sent> sent;
  for (const auto& item : traffic) {
    if (sent.empty() || sent.back().exchange->name != item.most.name) sent.push_back({&item.most});
    ++sent.back().calls;
    sent.back().most_bytes += item.most.bytes;
    sent.back().total_bytes += item.total_bytes;
  }
  return sent;
}

std::string link_text(const Link& link) {
  return fmt::format("{:.1f} GB/s, {:.1f} us", link.bytes_per_second / 1e9, link.latency_seconds * 1e6);
}

}  // namespace

std::string seconds_text(double seconds) {
  if (seconds >= 2 * kSecondsAnHour) return fmt::format("{:.1f} h", seconds / kSecondsAnHour);
  if (seconds >= 120) return fmt::format("{:.1f} min", seconds / 60);
  return seconds >= 1 ? fmt::format("{:.2f} s", seconds) : fmt::format("{:.2f} ms", seconds * 1e3);
}

std::string nodes_text(const NodesPlan& plan) {
  const auto& [topology, traffic, timeline, scaling] = plan;
  std::string text = fmt::format(
      "{} node{} of {} GPU{}\n  a GPU within its node: {} ({})\n  a node to the others: {} ({})\n\n", topology.nodes,
      topology.nodes == 1 ? "" : "s", topology.node_ranks, topology.node_ranks == 1 ? "" : "s",
      link_text(topology.node), topology.node_source, link_text(topology.network), topology.network_source);
  TextTable sent({"sent in a step", "collective", "calls", "bytes of a rank, at most", "of all ranks", ""}, 2);
  for (const auto& item : by_name(traffic))
    sent.add({item.exchange->name, name_of(item.exchange->collective), with_commas(item.calls),
              with_commas(item.most_bytes), with_commas(item.total_bytes),
              item.exchange->depends_on_rows ? "expected" : "exact"});
  text += sent.text(0) + "\n";

  TextTable times({"timeline of a step", "begins", "ends", "busy", "waited"});
  for (const auto& event : timeline.events)
    times.add({(event.computes ? "" : "  ") + event.name, seconds_text(event.begins), seconds_text(event.ends),
               seconds_text(event.busy), seconds_text(event.waited)});
  times.add({"the step", "", seconds_text(timeline.seconds), "", seconds_text(timeline.waited())});
  text += times.text(0);
  text += fmt::format("what binds: {}; links are waited for {:.1f}% of the step", timeline.binds(),
                      100 * timeline.waited() / timeline.seconds);
  if (const auto longest = timeline.longest_wait(); !longest.empty()) text += ", most for " + longest;
  text += "\n\n";

  TextTable scale({"GPUs", "nodes", "batch", "step", "waited", "queries/s", "efficiency", "GB a rank", "what binds",
                   "waits most for"},
                  0);
  for (const auto& point : scaling) {
    std::vector<std::string> row = {with_commas(point.ranks), with_commas(point.nodes), with_commas(point.batch_size)};
    if (point.peak_bytes == 0) {
      row.insert(row.end(), {"", "", "", "", "", "does not fit"});
    } else {
      const double rate = static_cast<double>(point.batch_size) / point.step_seconds;
      row.insert(row.end(),
                 {seconds_text(point.step_seconds), seconds_text(point.waited_seconds),
                  with_commas(static_cast<int64_t>(rate)), fmt::format("{:.1f}%", 100 * point.efficiency),
                  fmt::format("{:.2f}", static_cast<double>(point.peak_bytes) / 1e9), point.binds, point.longest_wait});
    }
    scale.add(std::move(row));
  }
  return text + "the same batch a GPU on more of them (weak scaling)\n" + scale.text(2);
}

nlohmann::json nodes_json(const NodesPlan& plan) {
  const auto& [topology, traffic, timeline, scaling] = plan;
  const auto link = [](const Link& of, const std::string& source) {
    return nlohmann::json{
        {"bytes_per_s", of.bytes_per_second}, {"latency_seconds", of.latency_seconds}, {"source", source}};
  };
  nlohmann::json json = {{"nodes", topology.nodes},
                         {"node_ranks", topology.node_ranks},
                         {"node_link", link(topology.node, topology.node_source)},
                         {"network_link", link(topology.network, topology.network_source)},
                         {"step_seconds", timeline.seconds},
                         {"waited_seconds", timeline.waited()},
                         {"binds", timeline.binds()},
                         {"longest_wait", timeline.longest_wait()}};
  for (const auto& item : traffic)
    json["sent"].push_back({{"name", item.most.name},
                            {"collective", name_of(item.most.collective)},
                            {"rank_bytes", item.most.bytes},
                            {"total_bytes", item.total_bytes},
                            {"exact", !item.most.depends_on_rows}});
  for (const auto& event : timeline.events)
    json["timeline"].push_back({{"name", event.name},
                                {"computes", event.computes},
                                {"begins", event.begins},
                                {"ends", event.ends},
                                {"busy_seconds", event.busy},
                                {"waited_seconds", event.waited},
                                {"calls", event.calls}});
  for (const auto& point : scaling)
    json["weak_scaling"].push_back({{"ranks", point.ranks},
                                    {"nodes", point.nodes},
                                    {"batch_size", point.batch_size},
                                    {"fits", point.peak_bytes > 0},
                                    {"peak_bytes", point.peak_bytes},
                                    {"step_seconds", point.step_seconds},
                                    {"waited_seconds", point.waited_seconds},
                                    {"efficiency", point.efficiency},
                                    {"binds", point.binds},
                                    {"longest_wait", point.longest_wait}});
  return json;
}

}  // namespace vixen
