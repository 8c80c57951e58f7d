// The table of samplers, and what a sampler does that keeps nothing.
#include "sampling/sampler.hpp"

#include "base/check.hpp"

namespace vixen {

#define VIXEN_SAMPLER(enumerator, name) std::unique_ptr<Sampler> make_##name(const Config& config, int64_t n_queries);
#include "config/samplers.inl"
#undef VIXEN_SAMPLER

std::vector<int64_t> Sampler::extra_labels(uint64_t, int64_t) const {
  return {};
}

void Sampler::end_epoch(uint64_t, bool, const ShardedTable&, Communicator&) {}

void Sampler::restore(const SamplerState&, Communicator&) {}

int64_t Sampler::end_epoch_bytes(int64_t, int64_t, int64_t, bool) const {
  return 0;
}

double Sampler::update_traffic_bytes(int64_t, int64_t) const {
  return 0;
}

std::unique_ptr<Sampler> make_sampler(const Config& config, int64_t n_queries) {
  switch (config.train.sampler) {
#define VIXEN_SAMPLER(enumerator, name) \
  case SamplerKind::enumerator:         \
    return make_##name(config, n_queries);
#include "config/samplers.inl"
#undef VIXEN_SAMPLER
  }
  VIXEN_CHECK(false, "no sampler of kind {}", static_cast<int>(config.train.sampler));
  return nullptr;
}

}  // namespace vixen
