// Training passes of an encoder that are recorded once for every shape of batch, and then enqueued as one launch each
// (device/work_graph.hpp): for passes that are many short kernels, which the host cannot enqueue as fast as a GPU runs
// them.
//   n sequences of a batch, D width
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "data/graph_batch.hpp"
#include "device/work_graph.hpp"
#include "model/encoder.hpp"

namespace vixen {

class RecordedPasses {
 public:
  /// announces: on_ready of backward() sets messages out, so that a recording ends at each announcement; else all come
  /// behind the one recording of the backward pass. The device has work graphs. `encoder` outlives the object.
  RecordedPasses(Encoder& encoder, at::Device device, bool announces);
  ~RecordedPasses();

  /// h [n, D] of the first n sequences of `filled`, whose shape is `shape`; as Encoder::forward, with what the backward
  /// pass needs kept. A shape runs as it is the first time that it comes, which also makes what libraries make once; it
  /// is recorded the second time. Of kMostRecordings shapes at most: of more, the one that came longest ago is dropped.
  /// Until backward() the result is not to be changed. A UserError where a kernel runs as its
  /// reference, whose work depends on the lengths of the sequences.
  at::Tensor forward(const PackedBatch& filled, const GraphShape& shape, int64_t n, const PassContext& context);
  /// grad_h [n, D] of the same batch: as Encoder::backward.
  void backward(const at::Tensor& grad_h, const std::function<void(int, int)>& on_ready);

  /// How many passes were recorded, forward and backward, and how many were enqueued from recordings.
  int64_t recordings() const { return recordings_; }
  int64_t replays() const { return replays_; }

 private:
  struct Recording;

  void drop_oldest();
  void make_operands(Recording& recording) const;
  void record_forward(Recording& recording);
  void record_backward(Recording& recording);

  Encoder* encoder_;
  at::Device device_;
  bool announces_;
  std::unique_ptr<WorkGraphPool> pool_;
  std::map<GraphShape, std::unique_ptr<Recording>> shapes_;  // null: came once
  // Of the pass between forward() and backward().
  Recording* current_ = nullptr;  // null: as it is
  PackedBatch batch_;
  PassContext context_;
  std::unique_ptr<Encoder::Saved> saved_;
  int64_t n_ = 0;
  int64_t recordings_ = 0, replays_ = 0;
};

}  // namespace vixen
