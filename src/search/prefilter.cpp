#include "search/prefilter.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <ctime>
#include <limits>

#include "base/check.hpp"
#include "base/log.hpp"
#include "search/one_thread.hpp"

namespace vixen {

#define VIXEN_PREFILTER(enumerator, name, widest, help) \
  std::unique_ptr<PreparedLabels> make_##name##_prefilter(const LabelRows& labels);
#include "config/prefilters.inl"
#undef VIXEN_PREFILTER

namespace {

bool takes(const PrefilterKind& kind, const LabelRows& labels) {
  return kind.widest == 0 || labels.rows.width() <= kind.widest;
}

/// Seconds of a processor that this thread has had: what others on the machine take meanwhile does not count.
double thread_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// All kinds, the fastest first: seconds of one thread for a block of labels once the candidates of a block before it
/// have been found, as in a long search; the best of a few by turns.
std::vector<const PrefilterKind*> by_speed() {
  constexpr int64_t kLabels = 4096, kQueries = 512, kWidth = 384, kPlaces = 10;
  constexpr int kRounds = 3;
  constexpr double kHopeless = 3;  // times the fastest so far: not timed again
  const auto random = [](int64_t n, uint64_t seed) {
    return at::randn({n, kWidth}, at::make_generator<at::CPUGeneratorImpl>(seed));
  };
  const OneThread alone;
  const LabelRows labels(random(2 * kLabels, 1), 0, kLabels);
  const at::Tensor queries = random(kQueries, 2);
  struct Timed {
    const PrefilterKind* kind;
    std::unique_ptr<PreparedLabels> prepared;
    double seconds = std::numeric_limits<double>::infinity();
  };
  std::vector<Timed> timed;
  for (const auto& kind : prefilter_kinds()) timed.push_back({&kind, kind.prepare(labels)});
  double fastest = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    for (auto& one : timed) {
      if (round > 0 && one.seconds > kHopeless * fastest) continue;
      std::vector<Candidates> candidates(kQueries, Candidates(kPlaces));
      const auto scan = one.prepared->begin(labels, kQueries);
      scan->take_queries(queries, 0);
      scan->scan(0, candidates);
      const double begin = thread_seconds();
      scan->scan(1, candidates);
      one.seconds = std::min(one.seconds, thread_seconds() - begin);
      fastest = std::min(fastest, one.seconds);
    }
  }
  std::sort(timed.begin(), timed.end(), [](const Timed& a, const Timed& b) { return a.seconds < b.seconds; });
  std::vector<const PrefilterKind*> kinds;
  for (const auto& one : timed) {
    spdlog::debug("prefilter {}: {:.2f} ms for {} queries among {} labels of width {}", one.kind->name,
                  1e3 * one.seconds, kQueries, kLabels, kWidth);
    kinds.push_back(one.kind);
  }
  return kinds;
}

}  // namespace

const std::vector<PrefilterKind>& prefilter_kinds() {
#define VIXEN_PREFILTER(enumerator, name, widest, help) {Prefilter::enumerator, #name, make_##name##_prefilter, widest},
  static const std::vector<PrefilterKind> kinds = {
#include "config/prefilters.inl"
  };
#undef VIXEN_PREFILTER
  return kinds;
}

std::unique_ptr<PreparedLabels> prepare_labels(Prefilter prefilter, const LabelRows& labels) {
  if (prefilter == Prefilter::kAuto) {
    static const auto fastest = by_speed();
    const auto fitting =
        std::find_if(fastest.begin(), fastest.end(), [&](const auto* kind) { return takes(*kind, labels); });
    VIXEN_CHECK(fitting != fastest.end(), "no prefilter for rows of width {}", labels.rows.width());
    return (*fitting)->prepare(labels);
  }
  const auto& kinds = prefilter_kinds();
  const auto kind = std::find_if(kinds.begin(), kinds.end(), [&](const auto& one) { return one.value == prefilter; });
  VIXEN_CHECK(kind != kinds.end(), "prefilter {}", static_cast<int>(prefilter));
  if (!takes(*kind, labels)) {
    fail_user("search.prefilter = {}: rows are {} wide; expected at most {}", kind->name, labels.rows.width(),
              kind->widest);
  }
  return kind->prepare(labels);
}

}  // namespace vixen
