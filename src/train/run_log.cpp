// Accumulates, reduces, formats, writes.
#include "train/run_log.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "base/check.hpp"
#include "base/host_name.hpp"
#include "base/log.hpp"
#include "device/device.hpp"

namespace vixen {

RunLog::RunLog(const Config& config, int64_t step, int64_t queries_to_come, Communicator& comm,
               const CountingCommunicator* messages)
    : config_(&config),
      comm_(&comm),
      messages_(messages),
      progress_("train", "queries", queries_to_come, comm.rank() == 0),
      stragglers_(comm.all_gather_host(host_name())) {
  if (messages_ != nullptr) counted_ = messages_->counts();
  if (comm.rank() == 0) lines_ = std::make_unique<MetricsLog>(config.run.dir, step);
}

bool RunLog::due(int64_t steps_done) const {
  return (steps_done + 1) % config_->run.log_every_steps == 0;
}

void RunLog::add(const StepInput& input, const StepResult& result, const RunPosition& position, double data_seconds,
                 double lr) {
  const auto add = [](at::Tensor& sum, const at::Tensor& value) { sum = sum.defined() ? sum + value : value; };
  add(interval_.loss, result.loss);
  if (interval_.terms.empty())
    for (const LossTerm& term : result.terms) interval_.terms.push_back({term.name, {}});
  for (size_t i = 0; i < result.terms.size(); ++i) add(interval_.terms[i].value, result.terms[i].value);
  const auto queries = static_cast<int64_t>(input.plan.query_rows.size());
  ++interval_.steps;
  interval_.queries += queries;
  interval_.positions += input.n_positions;
  interval_.data_seconds += data_seconds;
  interval_.seconds.forward += result.seconds.forward;
  interval_.seconds.collectives += result.seconds.collectives;
  interval_.seconds.backward += result.seconds.backward;
  interval_.seconds.optimiser += result.seconds.optimiser;
  progress_.advance(queries);
  if (!due(position.step - 1)) return;

  const int64_t all_positions = comm_->sum_host(interval_.positions);
  const double loss = interval_.loss.item<double>() / static_cast<double>(interval_.steps);
  if (!std::isfinite(loss))
    fail_user("{}: the loss is {} at step {}: lower the learning rates or use fp32", config_->run.dir, loss,
              position.step);
  const auto busy = comm_->all_gather_host(result.encoder ? std::llround(result.encoder->seconds() * 1e9) : 0);
  std::vector<double> rank_seconds;
  for (const int64_t nanoseconds : busy) rank_seconds.push_back(static_cast<double>(nanoseconds) / 1e9);
  if (lines_) write_interval(result, position, lr, loss, all_positions, rank_seconds);
  interval_ = Interval{};
}

void RunLog::write_interval(const StepResult& result, const RunPosition& position, double lr, double loss,
                            int64_t all_positions, const std::vector<double>& rank_seconds) {
  const double seconds = interval_clock_.next();
  const auto steps = static_cast<double>(interval_.steps);
  nlohmann::json line = {{"step", position.step},
                         {"epoch", position.epoch},
                         {"loss", loss},
                         {"lr", lr},
                         {"queries_per_s", static_cast<double>(interval_.queries) / seconds},
                         {"tokens_per_s", static_cast<double>(all_positions) / seconds}};
  for (const Sum& term : interval_.terms) line[term.name] = term.value.item<double>() / steps;
  if (result.grad_norm.defined()) line["grad_norm"] = result.grad_norm.item<double>();
  if (result.queries && result.labels) {
    const auto add = [&](const char* side, const Spread& spread) {
      line["spread"][side] = {{"mean_cosine", spread.mean_cosine.item<double>()},
                              {"effective_rank", spread.effective_rank.item<double>()}};
      return spread.mean_cosine.item<double>();
    };
    const double queries = add("queries", *result.queries), labels = add("labels", *result.labels);
    if (const auto warning = collapse_.look(queries, labels, position.step)) spdlog::warn("{}", *warning);
  }
  const auto memory = memory_use(comm_->device());
  line[comm_->device().is_cpu() ? "host_memory_bytes" : "gpu_memory_bytes"] = memory.peak_bytes;
  line["tensor_bytes_peak"] = memory.peak_tensor_bytes;
  line["seconds"] = {{"data", interval_.data_seconds / steps},
                     {"forward", interval_.seconds.forward / steps},
                     {"collectives", interval_.seconds.collectives / steps},
                     {"backward", interval_.seconds.backward / steps},
                     {"optimiser", interval_.seconds.optimiser / steps},
                     {"step", seconds / steps}};
  if (messages_ != nullptr) {
    auto& messages = line["messages"] = nlohmann::json::object();
    for (const auto& [name, count] : named(messages_->counts() - counted_))
      messages[name] = {{"calls", count.calls}, {"bytes", count.bytes}};
    counted_ = messages_->counts();
  }
  if (rank_seconds.size() > 1) {
    line["rank_seconds"] = rank_seconds;
    if (const auto warning = stragglers_.look(rank_seconds, position.step)) spdlog::warn("{}", *warning);
  }
  lines_->write(line);
  const auto epoch_now = static_cast<int64_t>(std::ceil(position.epoch));
  progress_.note(fmt::format("epoch {}/{} loss {:.4f}", epoch_now, config_->train.epochs, loss));
}

void RunLog::add_evaluation(const RunPosition& position, const std::map<std::string, double>& metrics) {
  if (!lines_) return;
  // A whole number of epochs, written as one.
  lines_->write(
      {{"step", position.step}, {"epoch", static_cast<int64_t>(std::llround(position.epoch))}, {"metrics", metrics}});
}

void RunLog::add_mining(const RunPosition& position, const MinedCounts& counts, double seconds) {
  if (!lines_) return;
  nlohmann::json mining = {{"seconds", seconds}};
  for (const auto& field : kMinedCountFields) mining[field.name] = counts.*field.count;
  lines_->write({{"step", position.step}, {"epoch", position.epoch}, {"mining", mining}});
  spdlog::info("{} in {:.1f} s", counts.text(), seconds);
}

void RunLog::add_checkpoint(const RunPosition& position, const CheckpointEnd& end, double waited_seconds) {
  if (!lines_) return;
  lines_->write({{"step", position.step},
                 {"epoch", position.epoch},
                 {"checkpoint",
                  {{"snapshot_seconds", end.snapshot_seconds},
                   {"waited_seconds", waited_seconds},
                   {"write_seconds", end.write_seconds},
                   {"bytes", end.bytes}}}});
}

void RunLog::finish() {
  progress_.finish();
}

}  // namespace vixen
