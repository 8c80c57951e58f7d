#include "pretend/work_graphs.hpp"

#include <utility>

#include "base/check.hpp"
#include "device/work_graph.hpp"
#include "pretend/ledger.hpp"
#include "pretend/pretend_device.hpp"

namespace vixen::pretend {
namespace {

struct Recorded {
  std::vector<std::function<void()>> work;
  std::vector<at::Tensor> alive;
};
thread_local Recorded* recording = nullptr;

class PretendGraph final : public WorkGraphPool::Graph {
 public:
  explicit PretendGraph(std::unique_ptr<Recorded> recorded) : recorded_(std::move(recorded)) {}
  void replay() override {
    VIXEN_CHECK(recording == nullptr, "a replay within a recording");
    for (const auto& again : recorded_->work) again();
  }

 private:
  std::unique_ptr<Recorded> recorded_;
};

class PretendGraphPool final : public WorkGraphPool {
 public:
  void begin() override {
    VIXEN_CHECK(recording == nullptr, "a recording within a recording");
    recorded_ = std::make_unique<Recorded>();
    recording = recorded_.get();
  }
  std::unique_ptr<Graph> end() override {
    VIXEN_CHECK(recording == recorded_.get() && recording != nullptr, "no recording has begun");
    recording = nullptr;
    return std::make_unique<PretendGraph>(std::move(recorded_));
  }

 private:
  std::unique_ptr<Recorded> recorded_;
};

}  // namespace

LentWorkGraphs::LentWorkGraphs() {
  lend_work_graphs(device().type(), [] { return std::unique_ptr<WorkGraphPool>(new PretendGraphPool); });
}
LentWorkGraphs::~LentWorkGraphs() {
  lend_work_graphs(device().type(), nullptr);
}

bool is_recording() {
  return recording != nullptr;
}

void record_work(std::function<void()> again, std::vector<at::Tensor> alive) {
  if (recording == nullptr) return;
  recording->work.push_back(std::move(again));
  for (at::Tensor& tensor : alive) recording->alive.push_back(std::move(tensor));
}

void keep_in_recording(const at::Tensor& made) {
  if (recording != nullptr) recording->alive.push_back(made);
}

void refuse_in_recording(const std::string& what) {
  if (recording != nullptr) add_fault(FaultKind::kWait, what + " in a recording");
}

}  // namespace vixen::pretend
