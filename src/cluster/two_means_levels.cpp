// The tree of balanced 2-means, level by level.
//
// What needs the rows (scores, sums of the rows that change sides, the order of the scores) is done by their owner;
// ranks agree on each node's sums, and on the score that divides it, by sums of small tables: none is larger than K x D
// values or K histograms.
#include "cluster/two_means_levels.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "base/check.hpp"
#include "cluster/device_kernels.hpp"
#include "cluster/two_means_arithmetic.hpp"
#include "cluster/two_means_median.hpp"

namespace vixen::two_means {

namespace {

// Values that a device treats at a time (bounds its temporaries), and rows that one thread does.
constexpr int64_t kChunkValues = int64_t{1} << 24;
constexpr int64_t kTaskRows = 512;
// Fewer values than this (some ten milliseconds' work) are not worth waking threads for, at every iteration.
constexpr int64_t kParallelValues = int64_t{32} << 20;

at::Tensor as_tensor(std::vector<double>& values, int64_t width) {
  return at::from_blob(values.data(), {std::ssize(values) / width, width}, at::kDouble);
}

at::Tensor as_tensor(const std::vector<int64_t>& values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {std::ssize(values)}, at::kLong);
}

int64_t chunk_rows(int64_t width) {
  return std::max<int64_t>(1, kChunkValues / width);
}

// sums [k, D] over all ranks, exactly.
void sum_over_ranks(std::vector<double>& sums, int64_t width, Communicator& comm) {
  if (comm.world_size() == 1 || sums.empty()) return;
  at::Tensor host = as_tensor(sums, width);
  if (comm.device().is_cpu()) {
    comm.all_reduce_sum(host);
  } else {
    for (int64_t begin = 0; begin < host.size(0); begin += chunk_rows(width)) {
      at::Tensor part = host.narrow(0, begin, std::min(chunk_rows(width), host.size(0) - begin));
      at::Tensor device = part.to(comm.device());
      comm.all_reduce_sum(device);
      part.copy_(device);
    }
  }
}

// This rank's rows and the arithmetic on them. A list of rows comes with the slot (active node) of each.
class LocalRows {
 public:
  LocalRows(const at::Tensor& rows, RowPath path) : rows_(rows), path_(path), width_(rows.size(1)) {
    if (path_ == RowPath::kLoops) data_ = rows_.const_data_ptr<float>();
  }
  int64_t width() const { return width_; }

  /// x . differences[slot] of each listed row -> float32 [count] on the rows' device.
  at::Tensor scores(const std::vector<int64_t>& rows, const std::vector<int64_t>& slots,
                    std::vector<double>& differences) const {
    const int64_t count = std::ssize(rows);
    at::Tensor out = at::empty({count}, rows_.options());
    if (path_ == RowPath::kLoops) {
      float* target = out.data_ptr<float>();
#pragma omp parallel for schedule(static) if (count * width_ >= kParallelValues)
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(i);
        target[i] = static_cast<float>(exact_dot(data_ + rows[at] * width_, &differences[at_slot(slots[at])], width_));
      }
      return out;
    }
    for_each_chunk(rows, slots, [&](const Chunk& chunk) {
      const at::Tensor of_slots =
          as_tensor(differences, width_).narrow(0, chunk.first_slot, chunk.slot_count).to(rows_.device());
      out.narrow(0, chunk.begin, chunk.rows.size(0))
          .copy_(row_scores(rows_, chunk.rows, chunk.slots.to(rows_.device()), of_slots));
    });
    return out;
  }

  /// sums[slot] += sign * x of each listed row. The list is grouped by slot.
  void add(const std::vector<int64_t>& rows, const std::vector<int64_t>& slots, const std::vector<double>& signs,
           std::vector<double>& sums) const {
    const int64_t count = std::ssize(rows);
    if (count == 0) return;
    if (path_ == RowPath::kLoops) {
      const int64_t tasks = (count + kTaskRows - 1) / kTaskRows;
#pragma omp parallel if (count * width_ >= kParallelValues)
      {
        std::vector<double> part(static_cast<size_t>(width_));
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tasks; ++task) {
          add_range(rows, slots, signs, task * kTaskRows, std::min(count, (task + 1) * kTaskRows), part, sums);
        }
      }
      return;
    }
    const at::Tensor sign = as_tensor(const_cast<std::vector<double>&>(signs), 1);
    for_each_chunk(rows, slots, [&](const Chunk& chunk) {
      at::Tensor host_sums = as_tensor(sums, width_).narrow(0, chunk.first_slot, chunk.slot_count);
      at::Tensor device_sums = host_sums.to(rows_.device(), at::kDouble, /*non_blocking=*/false, /*copy=*/true);
      const at::Tensor own_signs = sign.narrow(0, chunk.begin, chunk.rows.size(0)).view(-1).to(rows_.device());
      add_rows(rows_, chunk.rows, chunk.slots, own_signs, device_sums);
      host_sums.copy_(device_sums);
    });
  }

 private:
  // Successive rows of a list with the slots (of neighbours: the list is grouped) they belong to.
  struct Chunk {
    int64_t begin = 0;                       // in the list
    at::Tensor rows;                         // int64 [m] local rows, on the rows' device
    at::Tensor slots;                        // int64 [m] less first_slot, in host memory
    int64_t first_slot = 0, slot_count = 0;  // the slots from the first row's to the last one's
  };

  // Few rows at a time, and only their slots: neither the chunk nor the slots of a late level would fit beside the
  // rows.
  template <typename Work>
  void for_each_chunk(const std::vector<int64_t>& rows, const std::vector<int64_t>& slots, Work work) const {
    const int64_t count = std::ssize(rows), most = chunk_rows(width_);
    const at::Tensor all_rows = as_tensor(rows), all_slots = as_tensor(slots);
    for (int64_t begin = 0; begin < count; begin += most) {
      const int64_t length = std::min(most, count - begin);
      Chunk chunk;
      chunk.begin = begin;
      chunk.first_slot = slots[static_cast<size_t>(begin)];
      chunk.slot_count = slots[static_cast<size_t>(begin + length - 1)] + 1 - chunk.first_slot;
      chunk.rows = all_rows.narrow(0, begin, length).to(rows_.device());
      chunk.slots = all_slots.narrow(0, begin, length).sub(chunk.first_slot);
      work(chunk);
    }
  }

  size_t at_slot(int64_t slot) const {
    return static_cast<size_t>(slot * width_);
  }

  // Runs of one slot are summed aside, then added: exact sums, so neither the split into tasks nor their order counts.
  void add_range(const std::vector<int64_t>& rows, const std::vector<int64_t>& slots, const std::vector<double>& signs,
                 int64_t begin, int64_t end, std::vector<double>& part, std::vector<double>& sums) const {
    for (int64_t i = begin; i < end;) {
      const int64_t slot = slots[static_cast<size_t>(i)];
      std::fill(part.begin(), part.end(), 0.0);
      for (; i < end && slots[static_cast<size_t>(i)] == slot; ++i) {
        const auto at = static_cast<size_t>(i);
        add_row(part.data(), data_ + rows[at] * width_, signs[at], width_);
      }
      double* sum = &sums[at_slot(slot)];
      for (int64_t d = 0; d < width_; ++d) {
        std::atomic_ref<double>(sum[d]).fetch_add(part[static_cast<size_t>(d)], std::memory_order_relaxed);
      }
    }
  }

  const at::Tensor& rows_;
  RowPath path_;
  int64_t width_;
  const float* data_ = nullptr;
};

// One pass over the levels' state.
class Splitter {
 public:
  Splitter(const Level& level, const at::Tensor& unit_rows, const TwoMeansOptions& options, Communicator& comm,
           RowPath path)
      : level_(level),
        rows_(unit_rows, path),
        options_(options),
        comm_(comm),
        width_(unit_rows.size(1)),
        side_(level.members.size(), 1),
        scores_(level.members.size()),
        first_sums_(level.sums.size(), 0.0) {
    for (int64_t node = 0; node < level_.nodes(); ++node) {
      // A set of one stays: all of it is the first half.
      if (size(node) == 1) {
        for (int64_t i = begin(node); i < end(node); ++i) side_[static_cast<size_t>(i)] = 0;
        std::copy_n(&level_.sums[at(node)], width_, &first_sums_[at(node)]);
      }
      if (size(node) >= 2) active_.push_back(node);
    }
    last_similarity_.assign(level_.sizes.size(), -2.0);  // below any mean
  }

  Level run() {
    if (!active_.empty()) {
      seed();
      for (int iteration = 0; iteration < options_.max_iterations && !active_.empty(); ++iteration) iterate();
    }
    return next_level();
  }

 private:
  int64_t begin(int64_t node) const { return level_.begins[static_cast<size_t>(node)]; }
  int64_t end(int64_t node) const { return level_.begins[static_cast<size_t>(node) + 1]; }
  int64_t size(int64_t node) const { return level_.sizes[static_cast<size_t>(node)]; }
  size_t at(int64_t node) const { return static_cast<size_t>(node * width_); }

  // differences_ = second seed - first seed of every active node.
  void seed() {
    differences_.assign(active_.size() * static_cast<size_t>(width_), 0.0);
    std::vector<int64_t> members;
    members.reserve(active_.size());
    for (const int64_t node : active_) members.push_back(end(node) - begin(node));
    const auto before = sums_of_lower_ranks(members, comm_);
    std::vector<int64_t> rows, slots;
    std::vector<double> signs;
    for (size_t slot = 0; slot < active_.size(); ++slot) {
      const int64_t node = active_[slot];
      const auto heap_node = (uint64_t{1} << level_.level) + static_cast<uint64_t>(level_.first_node + node);
      const auto [first, second] = seed_places(options_.seed, options_.epoch, heap_node, size(node));
      const auto own_members = level_.members_of(node);
      for (const auto& [place, sign] : {std::pair{first, -1.0}, std::pair{second, 1.0}}) {
        const int64_t own = place - before[slot];
        if (own < 0 || own >= std::ssize(own_members)) continue;
        rows.push_back(own_members[static_cast<size_t>(own)]);
        slots.push_back(static_cast<int64_t>(slot));
        signs.push_back(sign);
      }
    }
    rows_.add(rows, slots, signs, differences_);
    sum_over_ranks(differences_, width_, comm_);
  }

  void iterate() {
    score_rows();
    move_rows();
    update_centroids();
  }

  // scores_ of this rank's members of active nodes.
  void score_rows() {
    std::vector<int64_t> rows, slots;
    for (size_t slot = 0; slot < active_.size(); ++slot)
      for (const int32_t member : level_.members_of(active_[slot])) {
        rows.push_back(member);
        slots.push_back(static_cast<int64_t>(slot));
      }
    const at::Tensor local = rows_.scores(rows, slots, differences_).to(at::kCPU);
    const float* source = local.const_data_ptr<float>();
    for (const int64_t node : active_) {
      std::copy_n(source, end(node) - begin(node), scores_.begin() + begin(node));
      source += end(node) - begin(node);
    }
  }

  // Halves every active node by its scores; first_sums_ follows the rows that change sides.
  void move_rows() {
    const std::vector<uint8_t> before = side_;
    std::vector<ScoredSet> sets;
    sets.reserve(active_.size());
    for (const int64_t node : active_) {
      const auto from = static_cast<size_t>(begin(node)), count = static_cast<size_t>(end(node) - begin(node));
      sets.push_back({size(node), std::span(scores_).subspan(from, count), std::span(side_).subspan(from, count)});
    }
    split_in_halves(sets, comm_);
    std::vector<double> change(active_.size() * static_cast<size_t>(width_), 0.0);
    std::vector<int64_t> rows, slots;
    std::vector<double> signs;
    for (size_t slot = 0; slot < active_.size(); ++slot) {
      for (int64_t i = begin(active_[slot]); i < end(active_[slot]); ++i) {
        const auto place = static_cast<size_t>(i);
        if (side_[place] == before[place]) continue;
        rows.push_back(level_.members[place]);
        slots.push_back(static_cast<int64_t>(slot));
        signs.push_back(side_[place] == 0 ? 1.0 : -1.0);
      }
    }
    rows_.add(rows, slots, signs, change);
    sum_over_ranks(change, width_, comm_);
    for (size_t slot = 0; slot < active_.size(); ++slot) {
      double* sum = &first_sums_[at(active_[slot])];
      for (int64_t d = 0; d < width_; ++d)
        sum[d] += change[slot * static_cast<size_t>(width_) + static_cast<size_t>(d)];
    }
  }

  // New differences of centroids; nodes that gained too little are done.
  void update_centroids() {
    std::vector<uint8_t> done(active_.size());
#pragma omp parallel if (std::ssize(differences_) >= kParallelValues)
    {
      std::vector<double> scratch, second(static_cast<size_t>(width_));
#pragma omp for schedule(static)
      for (int64_t i = 0; i < std::ssize(active_); ++i) {
        const auto slot = static_cast<size_t>(i);
        const int64_t node = active_[slot];
        const double* first = &first_sums_[at(node)];
        for (int64_t d = 0; d < width_; ++d)
          second[static_cast<size_t>(d)] = level_.sums[at(node) + static_cast<size_t>(d)] - first[d];
        const double similarity =
            centroid_difference(first, second.data(), &differences_[slot * static_cast<size_t>(width_)], width_,
                                scratch) /
            static_cast<double>(size(node));
        double& last = last_similarity_[static_cast<size_t>(node)];
        done[slot] = similarity - last < options_.tolerance;
        last = similarity;
      }
    }
    size_t kept = 0;
    for (size_t slot = 0; slot < active_.size(); ++slot) {
      if (done[slot]) continue;
      if (kept != slot) {
        std::copy_n(&differences_[slot * static_cast<size_t>(width_)], width_,
                    &differences_[kept * static_cast<size_t>(width_)]);
      }
      active_[kept++] = active_[slot];
    }
    active_.resize(kept);
    differences_.resize(kept * static_cast<size_t>(width_));
  }

  Level next_level() const {
    Level next;
    next.level = level_.level + 1;
    next.first_node = 2 * level_.first_node;
    next.members.resize(level_.members.size());
    next.sums.resize(2 * level_.sums.size());
    next.begins.push_back(0);
    for (int64_t node = 0; node < level_.nodes(); ++node) {
      next.sizes.push_back((size(node) + 1) / 2);
      next.sizes.push_back(size(node) / 2);
      const auto own =
          std::span(side_).subspan(static_cast<size_t>(begin(node)), static_cast<size_t>(end(node) - begin(node)));
      int64_t first = begin(node), second = first + std::count(own.begin(), own.end(), uint8_t{0});
      next.begins.push_back(second);
      next.begins.push_back(end(node));
      for (int64_t i = begin(node); i < end(node); ++i) {
        const auto place = static_cast<size_t>(i);
        next.members[static_cast<size_t>(side_[place] == 0 ? first++ : second++)] = level_.members[place];
      }
      for (int64_t d = 0; d < width_; ++d) {
        const double first_sum = first_sums_[at(node) + static_cast<size_t>(d)];
        next.sums[at(2 * node) + static_cast<size_t>(d)] = first_sum;
        next.sums[at(2 * node + 1) + static_cast<size_t>(d)] =
            level_.sums[at(node) + static_cast<size_t>(d)] - first_sum;
      }
    }
    return next;
  }

  const Level& level_;
  LocalRows rows_;
  const TwoMeansOptions& options_;
  Communicator& comm_;
  int64_t width_;
  std::vector<uint8_t> side_;            // of each member: 0 first half, 1 second
  std::vector<float> scores_;            // of each member
  std::vector<double> first_sums_;       // [K, D] of the rows on side 0
  std::vector<int64_t> active_;          // nodes still moving
  std::vector<double> differences_;      // [active, D] second centroid - first
  std::vector<double> last_similarity_;  // [K]
};

}  // namespace

int64_t device_bytes(int64_t local_rows, int64_t width) {
  return list_bytes(std::min(local_rows, chunk_rows(width)), width) +
         2 * local_rows * static_cast<int64_t>(sizeof(float));  // scores of all rows
}

Level root_level(const at::Tensor& unit_rows, Communicator& comm, RowPath path) {
  const int64_t n = unit_rows.size(0);
  Level root;
  root.sizes = {comm.sum_host(n)};
  VIXEN_CHECK(root.sizes[0] < kMaxRows, "{} rows: sums are exact below {}", root.sizes[0], kMaxRows);
  root.begins = {0, n};
  root.members.resize(static_cast<size_t>(n));
  std::iota(root.members.begin(), root.members.end(), 0);
  root.sums.assign(static_cast<size_t>(unit_rows.size(1)), 0.0);
  std::vector<int64_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), int64_t{0});
  LocalRows(unit_rows, path)
      .add(rows, std::vector<int64_t>(rows.size(), 0), std::vector<double>(rows.size(), 1.0), root.sums);
  sum_over_ranks(root.sums, unit_rows.size(1), comm);
  return root;
}

Level split_level(const Level& level, const at::Tensor& unit_rows, const TwoMeansOptions& options, Communicator& comm,
                  RowPath path) {
  return Splitter(level, unit_rows, options, comm, path).run();
}

Level part_of(const Level& level, int64_t first, int64_t last) {
  const auto from = static_cast<size_t>(first), to = static_cast<size_t>(last);
  const size_t width = level.sums.size() / level.sizes.size();
  Level part;
  part.level = level.level;
  part.first_node = level.first_node + first;
  part.sizes.assign(level.sizes.begin() + first, level.sizes.begin() + last);
  for (size_t node = from; node <= to; ++node) part.begins.push_back(level.begins[node] - level.begins[from]);
  part.members.assign(level.members.begin() + level.begins[from], level.members.begin() + level.begins[to]);
  const auto* sums = level.sums.data();
  part.sums.assign(sums + from * width, sums + to * width);
  return part;
}

}  // namespace vixen::two_means
