// Walks through a step as train/train_step.cpp takes it.
#include "plan/traffic_plan.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <utility>

#include "base/check.hpp"
#include "mining/mined_lists.hpp"
#include "objective/objective.hpp"
#include "prototypes/label_prototypes.hpp"
#include "shard/gradient_buckets.hpp"

namespace vixen {
namespace {

constexpr int64_t kFloat = 4, kBfloat16 = 2, kDouble = 8, kHostValue = 8;

int as_int(int64_t value) {
  return static_cast<int>(value);
}

double as_double(int64_t value) {
  return static_cast<double>(value);
}

// The rows of a sharded table that one rank sends to others, to be gathered or to be summed.
class TableRows {
 public:
  TableRows(int64_t table_rows, int rank, int world_size)
      : shards_(table_rows, world_size), rank_(rank), world_size_(world_size) {}

  // Each rank asks for the distinct rows of its part of `ids`: those that this rank has.
  int64_t gathered(std::span<const int64_t> ids) const {
    int64_t sent = 0;
    for (int peer = 0; peer < world_size_; ++peer) {
      if (peer == rank_) continue;
      std::set<int64_t> asked;
      for_part(ids, peer, [&](int64_t id) {
        if (shards_.owner(id) == rank_) asked.insert(id);
      });
      sent += std::ssize(asked);
    }
    return sent;
  }
  // The same of ids drawn evenly: a rank's part of m_p of them holds n (1 - (1 - 1/n)^m_p) distinct ones.
  double gathered(int64_t n_ids) const {
    const double rows = as_double(shards_.n_rows());
    double asked = 0;
    for (int peer = 0; peer < world_size_; ++peer)
      if (const int64_t ids = batch_slice(n_ids, peer, world_size_).size(); peer != rank_ && ids > 0)
        asked -= rows * std::expm1(as_double(ids) * std::log1p(-1 / rows));
    return asked * share();
  }

  // Every row of this rank's part of `ids` goes to whoever has that row of the table.
  int64_t scattered(std::span<const int64_t> ids) const {
    int64_t sent = 0;
    for_part(ids, rank_, [&](int64_t id) { sent += shards_.owner(id) != rank_ ? 1 : 0; });
    return sent;
  }
  double scattered(int64_t n_ids) const {
    return as_double(batch_slice(n_ids, rank_, world_size_).size()) * (1 - share());
  }

  // How many of `rows` this rank has.
  int64_t owned(std::span<const int64_t> rows) const {
    return std::count_if(rows.begin(), rows.end(), [&](int64_t row) { return shards_.range(rank_).contains(row); });
  }
  double share() const { return as_double(shards_.range(rank_).size()) / as_double(shards_.n_rows()); }

 private:
  template <typename Visit>
  void for_part(std::span<const int64_t> ids, int rank, const Visit& visit) const {
    const RowRange part = batch_slice(std::ssize(ids), rank, world_size_);
    for (int64_t i = part.begin; i < part.end; ++i) visit(ids[static_cast<size_t>(i)]);
  }

  RowShards shards_;
  int rank_, world_size_;
};

// One rank's step, exchange by exchange.
class Step {
 public:
  Step(const TrafficShape& shape, int rank, const BatchRows* rows)
      : shape_(shape),
        rank_(rank),
        w_(as_int(shape.world_size)),
        rows_(rows),
        b_(rows != nullptr ? std::ssize(rows->query_rows) : shape.config.train.batch_size),
        m_(rows != nullptr ? std::ssize(rows->label_rows) : shape.columns),
        objective_(make_objective(shape.config)) {}

  std::vector<Exchange> exchanges(const StepKind& kind) {
    const bool prime = objective_->uses_prototypes();
    if (shape_.config.mining.columns > 0) offers();
    if (prime) {
      const int64_t free_vectors = LabelPrototypes::free_vector_elements(shape_.config, shape_.labels, 1);
      gathered("rows of free vectors", free_vectors, rows_ != nullptr ? rows_->free_vector_rows : none_);
      gathered("rows of centroids", shape_.labels, rows_ != nullptr ? rows_->label_rows : none_);
      embeddings();
      objective();
      scattered("gradients of free vectors", free_vectors);
    } else {
      embeddings();
      objective();
    }
    gradients();
    if (prime && (kind.logged || shape_.config.train.clip_norm > 0))
      sum("norm of the gradients of free vectors", Moment::kUpdate, 1, kDouble);
    if (kind.logged) {
      host("positions of the interval", Moment::kUpdate, Collective::kSumHost);
      host("seconds of ranks", Moment::kUpdate, Collective::kAllGatherHost);
    }
    if (kind.agrees) host("whether to stop", Moment::kBehind, Collective::kMaxHost);
    return std::move(exchanges_);
  }

 private:
  int64_t own(int64_t rows) const { return batch_slice(rows, rank_, w_).size(); }

  void sum(std::string name, Moment moment, int64_t elements, int64_t element_bytes, double done = 1) {
    exchanges_.push_back({std::move(name), moment, Collective::kAllReduceSum,
                          all_reduce_bytes(elements, element_bytes, rank_, w_), as_double(elements * element_bytes),
                          false, done});
  }
  void host(std::string name, Moment moment, Collective collective) {
    exchanges_.push_back({std::move(name), moment, collective, host_value_bytes(w_), as_double(kHostValue), false, 1});
  }
  // rows: how many this rank sends, of D float32; a whole number where they are known.
  void rows(std::string name, Moment moment, double rows) {
    const double bytes = rows * as_double(shape_.width * kFloat);
    exchanges_.push_back({std::move(name), moment, Collective::kAllToAllRows, std::llround(bytes), bytes, true, 1});
  }

  void gathered(std::string name, int64_t table_rows, std::span<const int64_t> ids) {
    const TableRows table(table_rows, rank_, w_);
    rows(std::move(name), Moment::kForward, rows_ != nullptr ? as_double(table.gathered(ids)) : table.gathered(m_));
  }
  void scattered(std::string name, int64_t table_rows) {
    const TableRows table(table_rows, rank_, w_);
    rows(std::move(name), Moment::kObjective,
         rows_ != nullptr ? as_double(table.scattered(rows_->free_vector_rows)) : table.scattered(m_));
  }

  // What mined lists offer to the batch: of the queries that a rank has, in a text.
  void offers() {
    const TableRows table(shape_.queries, rank_, w_);
    const double owned = rows_ != nullptr ? as_double(table.owned(rows_->query_rows)) : as_double(b_) * table.share();
    const double text = owned * as_double(MinedLists::offer_bytes(shape_.config.mining, b_));
    exchanges_.push_back({"labels that queries offer", Moment::kAhead, Collective::kAllGatherHost,
                          host_text_bytes(std::llround(text), w_), text, true, 1});
  }

  // q, u and, with prototypes, z of the whole batch on every rank.
  void embeddings() {
    const int64_t sides = objective_->uses_prototypes() ? 2 : 1, row = shape_.width * kFloat;
    exchanges_.push_back({"embeddings of the batch", Moment::kGather, Collective::kAllGatherRows,
                          all_gather_bytes(own(b_) + sides * own(m_), row, w_), as_double((b_ + sides * m_) * row),
                          false, 1});
  }

  void objective() {
    if (shape_.way != ObjectiveWay::kSharded) return;
    sum("sums of the objective", Moment::kObjective, objective_->n_sums(b_, m_), kDouble);
    scatter("gradients of q", b_);
    scatter("gradients of u", m_);
    if (objective_->uses_prototypes()) scatter("gradients of z", m_);
  }
  void scatter(std::string name, int64_t all_rows) {
    std::vector<int64_t> rows;
    rows.reserve(static_cast<size_t>(w_));
    for (int rank = 0; rank < w_; ++rank) rows.push_back(batch_slice(all_rows, rank, w_).size());
    const int64_t row = shape_.width * kFloat;
    exchanges_.push_back({std::move(name), Moment::kObjective, Collective::kReduceScatterRows,
                          reduce_scatter_bytes(rows, row, rank_), as_double(all_rows * row), false, 1});
  }

  // The flat gradients, an exchange a bucket.
  void gradients() {
    if (w_ == 1) return;
    GradientBuckets buckets(shape_.config.comm.bucket_mb);
    const int64_t element = shape_.config.comm.gradients == GradientSums::kBf16 ? kBfloat16 : kFloat;
    double done = 0;
    const auto send = [&](const RowRange& bucket) {
      sum("gradients", Moment::kBackward, bucket.size(), element, done);
    };
    for (const auto& finished : shape_.gradients) {
      done = finished.done;
      buckets.add(finished.elements, send);
    }
    done = 1;
    buckets.flush(send);
  }

  const TrafficShape& shape_;
  int rank_, w_;
  const BatchRows* rows_;
  int64_t b_, m_;
  std::unique_ptr<Objective> objective_;
  std::span<const int64_t> none_;
  std::vector<Exchange> exchanges_;
};

}  // namespace

TrafficShape traffic_shape(const MemoryShape& shape, ObjectiveWay way, const LayeredEncoder& encoder,
                           const ParameterStore& store, const PrototypeNetwork* network) {
  TrafficShape traffic{shape.config,      shape.world_size, shape.width, shape.data.queries,
                       shape.data.labels, shape.columns,    way,         {}};
  if (network != nullptr)
    traffic.gradients.push_back({store.elements_of({network->first_parameter(), network->last_parameter()}), 0});
  const auto pieces = encoder.backward_pieces();
  const auto layers = std::count_if(pieces.begin(), pieces.end(), [](const auto& piece) { return piece.is_layer; });
  int64_t over = 0;
  for (const auto& piece : pieces) {
    over += piece.is_layer ? 1 : 0;
    for (const auto& range : piece.finished)
      traffic.gradients.push_back({store.elements_of(range), as_double(over) / as_double(layers)});
  }
  return traffic;
}

std::vector<Exchange> step_exchanges(const TrafficShape& shape, const StepKind& kind, int rank, const BatchRows* rows) {
  VIXEN_CHECK(rank >= 0 && rank < shape.world_size, "rank {} of {}", rank, shape.world_size);
  return Step(shape, rank, rows).exchanges(kind);
}

MessageCounts counts_of(std::span<const Exchange> exchanges) {
  MessageCounts counts;
  for (const auto& exchange : exchanges) counts.add(exchange.collective, exchange.bytes);
  return counts;
}

std::vector<Traffic> step_traffic(const TrafficShape& shape) {
  std::vector<Traffic> traffic;
  for (int rank = 0; rank < shape.world_size; ++rank) {
    auto exchanges = step_exchanges(shape, {}, rank);
    if (rank == 0) traffic.resize(exchanges.size());
    for (size_t i = 0; i < exchanges.size(); ++i) {
      auto& sent = traffic[i];
      sent.total_bytes += exchanges[i].bytes;
      if (rank == 0 || exchanges[i].bytes > sent.most.bytes) sent.most = std::move(exchanges[i]);
    }
  }
  return traffic;
}

}  // namespace vixen
