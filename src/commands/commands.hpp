// The commands of the program: each takes the resolved configuration and the job, returns the exit code.
#pragma once

#include <string>
#include <vector>

#include "comm/session.hpp"
#include "config/config.hpp"

namespace vixen {

int train_command(const Config& config, MpiSession& session);
int embed_command(const Config& config, MpiSession& session);
int search_command(const Config& config, MpiSession& session);
int evaluate_command(const Config& config, MpiSession& session);
int predict_command(const Config& config, MpiSession& session);
int mine_command(const Config& config, MpiSession& session);
int export_command(const Config& config, MpiSession& session);
int plan_command(const Config& config, MpiSession& session);
int inspect_command(const Config& config, const std::vector<std::string>& files, MpiSession& session);
int bench_command(const Config& config, MpiSession& session);
int doctor_command(const Config& config, MpiSession& session);

}  // namespace vixen
