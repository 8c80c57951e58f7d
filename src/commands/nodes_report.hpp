// What `vixen plan` says of a step on many nodes: what is sent, the timeline, and how it goes with the number of GPUs.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "plan/step_timeline.hpp"
#include "plan/topology.hpp"
#include "plan/traffic_plan.hpp"
#include "plan/weak_scaling.hpp"

namespace vixen {

struct NodesPlan {
  Topology topology;
  std::vector<Traffic> traffic;
  StepTimeline timeline;
  std::vector<ScalePoint> scaling;
};

std::string nodes_text(const NodesPlan& plan);
nlohmann::json nodes_json(const NodesPlan& plan);

inline constexpr double kSecondsAnHour = 3600;
/// "3.4 h", "2.1 min", "1.50 s", "12.34 ms"
std::string seconds_text(double seconds);

}  // namespace vixen
