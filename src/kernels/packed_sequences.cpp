#include "kernels/packed_sequences.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.hpp"
#include "device/transfer.hpp"

namespace vixen {
SequenceGroups::SequenceGroups(at::Tensor host_offsets, at::Tensor sequence_keys)
    : host_offsets_(host_offsets.contiguous()), sequence_keys_(std::move(sequence_keys)) {
  VIXEN_CHECK(host_offsets_.is_cpu() && host_offsets_.scalar_type() == at::kInt &&
                  host_offsets_.numel() == sequence_keys_.numel() + 1,
              "{} offsets on {} for {} sequences", host_offsets_.numel(), host_offsets_.device().str(),
              sequence_keys_.numel());
}

const std::vector<SequenceGroup>& SequenceGroups::of(int64_t heads) {
  if (heads_ == heads) return groups_;
  groups_.clear();
  const int32_t* starts = host_offsets_.const_data_ptr<int32_t>();
  std::map<int64_t, std::vector<int64_t>> members;
  for (int64_t i = 0; i + 1 < host_offsets_.numel(); ++i)
    if (starts[i + 1] > starts[i]) members[starts[i + 1] - starts[i]].push_back(i);
  const at::Device device = sequence_keys_.device();
  for (const auto& [length, all] : members) {
    const int64_t step = std::max<int64_t>(1, kMaxGroupScores / (length * length * heads));
    for (int64_t first = 0; first < std::ssize(all); first += step) {
      const int64_t count = std::min<int64_t>(step, std::ssize(all) - first);
      const at::Tensor ids = at::tensor(at::ArrayRef<int64_t>(all.data() + first, count), at::kLong);
      const at::Tensor rows =
          host_offsets_.index_select(0, ids).to(at::kLong).unsqueeze(1) + at::arange(length, at::kLong);
      groups_.push_back(
          {length, to_device(rows.flatten(), device), sequence_keys_.index_select(0, to_device(ids, device))});
    }
  }
  heads_ = heads;
  return groups_;
}

}  // namespace vixen
