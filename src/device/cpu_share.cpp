// The partition of a node's CPUs: masks narrowed to the wanted NUMA nodes, then dealt among the ranks that compete.
#include "device/cpu_share.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <numeric>
#include <tuple>

#include "base/check.hpp"

namespace vixen {
namespace {

using Cpus = std::vector<int>;

/// Border r of n things dealt to `ranks`: rank r takes [border(r), border(r + 1)).
size_t border(size_t n, size_t rank, size_t ranks) {
  return n * rank / ranks;
}

class Dealer {
 public:
  Dealer(const std::vector<Cpus>& masks, const std::vector<int>& wanted_nodes, const std::vector<CpuPlace>& topology)
      : masks_(masks), wanted_(wanted_nodes) {
    for (const auto& place : topology) places_[place.cpu] = place;
    shares_.cpus.resize(masks.size());
    shares_.threads.assign(masks.size(), 1);
  }

  CpuShares deal() {
    prefer_wanted_nodes();
    for (const auto& ranks : competing_groups()) {
      if (std::all_of(ranks.begin(), ranks.end(), [&](size_t r) { return masks_[r] == masks_[ranks[0]]; }))
        deal_one_mask(ranks);
      else
        deal_overlapping_masks(ranks);
    }
    for (auto& cpus : shares_.cpus) std::sort(cpus.begin(), cpus.end());
    return std::move(shares_);
  }

 private:
  CpuPlace place(int cpu) const {
    const auto found = places_.find(cpu);
    return found != places_.end() ? found->second : CpuPlace{cpu, cpu, 0};
  }

  void prefer_wanted_nodes() {
    std::map<int, std::vector<size_t>> wanting;
    for (size_t r = 0; r < masks_.size(); ++r)
      if (wanted_[r] >= 0) wanting[wanted_[r]].push_back(r);
    for (const auto& [node, ranks] : wanting) {
      std::vector<Cpus> near(ranks.size());
      Cpus all;
      for (size_t i = 0; i < ranks.size(); ++i) {
        for (const int cpu : masks_[ranks[i]])
          if (place(cpu).node == node) near[i].push_back(cpu);
        all.insert(all.end(), near[i].begin(), near[i].end());
      }
      std::sort(all.begin(), all.end());
      all.erase(std::unique(all.begin(), all.end()), all.end());
      if (all.size() < ranks.size()) continue;
      for (size_t i = 0; i < ranks.size(); ++i)
        if (!near[i].empty()) masks_[ranks[i]] = near[i];
    }
  }

  /// Ranks whose masks hang together, directly or through others. A rank without CPUs is in none.
  std::vector<std::vector<size_t>> competing_groups() const {
    std::vector<size_t> first(masks_.size());  // union-find: the group's lowest rank
    std::iota(first.begin(), first.end(), size_t{0});
    const auto find = [&](size_t r) {
      while (first[r] != r) r = first[r];
      return r;
    };
    std::map<int, size_t> user;  // of each CPU
    for (size_t r = 0; r < masks_.size(); ++r) {
      for (const int cpu : masks_[r]) {
        const size_t a = find(user.emplace(cpu, r).first->second), b = find(r);
        first[std::max(a, b)] = std::min(a, b);
      }
    }
    std::map<size_t, std::vector<size_t>> groups;
    for (size_t r = 0; r < masks_.size(); ++r)
      if (!masks_[r].empty()) groups[find(r)].push_back(r);
    std::vector<std::vector<size_t>> result;
    result.reserve(groups.size());
    for (auto& [_, ranks] : groups) result.push_back(std::move(ranks));
    return result;
  }

  /// CPUs by NUMA node and core: neighbours in this order lie close to one another.
  Cpus by_place(Cpus cpus) const {
    std::sort(cpus.begin(), cpus.end(), [&](int a, int b) {
      const auto x = place(a), y = place(b);
      return std::tie(x.node, x.core, x.cpu) < std::tie(y.node, y.core, y.cpu);
    });
    return cpus;
  }

  void deal_one_mask(const std::vector<size_t>& ranks) {
    const Cpus cpus = by_place(masks_[ranks[0]]);
    std::vector<size_t> cores;  // where each begins in `cpus`
    for (size_t i = 0; i < cpus.size(); ++i)
      if (i == 0 || place(cpus[i]).core != place(cpus[i - 1]).core) cores.push_back(i);
    cores.push_back(cpus.size());
    const size_t n_cores = cores.size() - 1, n_ranks = ranks.size();
    const bool too_few = cpus.size() < n_ranks;
    for (size_t i = 0; i < n_ranks; ++i) {
      size_t begin = 0, end = cpus.size();
      if (n_ranks <= n_cores) {
        begin = cores[border(n_cores, i, n_ranks)], end = cores[border(n_cores, i + 1, n_ranks)];
      } else if (!too_few) {
        begin = border(cpus.size(), i, n_ranks), end = border(cpus.size(), i + 1, n_ranks);
      }
      give(ranks[i], Cpus(cpus.begin() + static_cast<int64_t>(begin), cpus.begin() + static_cast<int64_t>(end)));
      if (too_few) shares_.threads[ranks[i]] = 1;
    }
    shares_.shared = shares_.shared || too_few;
  }

  struct Unit {
    Cpus cpus;
    std::vector<size_t> ranks;  // that may use it
    bool taken = false;
  };

  /// CPUs of one core that the same ranks may use (or single CPUs), by place.
  std::vector<Unit> units_of(const std::vector<size_t>& ranks, bool whole_cores) const {
    std::map<int, std::vector<size_t>> users;
    Cpus all;
    for (const size_t r : ranks)
      for (const int cpu : masks_[r]) {
        users[cpu].push_back(r);
        if (users[cpu].size() == 1) all.push_back(cpu);
      }
    std::vector<Unit> units;
    for (const int cpu : by_place(all)) {
      const bool joins = whole_cores && !units.empty() && units.back().ranks == users[cpu] &&
                         place(units.back().cpus[0]).core == place(cpu).core;
      if (joins)
        units.back().cpus.push_back(cpu);
      else
        units.push_back({{cpu}, users[cpu]});
    }
    return units;
  }

  /// One unit for each rank, where there is a way to do that for all (augmenting paths). -1: none for this rank.
  static std::vector<int> match(const std::vector<size_t>& ranks, const std::vector<Unit>& units) {
    std::map<size_t, int> unit_of;
    std::vector<int> rank_of(units.size(), -1);
    for (const size_t r : ranks) unit_of[r] = -1;
    const std::function<bool(size_t, std::vector<char>&)> place_rank = [&](size_t r, std::vector<char>& seen) {
      for (size_t u = 0; u < units.size(); ++u) {
        const auto& users = units[u].ranks;
        if (seen[u] || std::find(users.begin(), users.end(), r) == users.end()) continue;
        seen[u] = 1;
        if (rank_of[u] >= 0 && !place_rank(static_cast<size_t>(rank_of[u]), seen)) continue;
        rank_of[u] = static_cast<int>(r);
        unit_of[r] = static_cast<int>(u);
        return true;
      }
      return false;
    };
    for (const size_t r : ranks) {
      std::vector<char> seen(units.size(), 0);
      place_rank(r, seen);
    }
    std::vector<int> matched;
    matched.reserve(ranks.size());
    for (const size_t r : ranks) matched.push_back(unit_of[r]);
    return matched;
  }

  void deal_overlapping_masks(const std::vector<size_t>& ranks) {
    auto units = units_of(ranks, /*whole_cores=*/true);
    auto matched = match(ranks, units);
    if (std::count(matched.begin(), matched.end(), -1) > 0) {
      units = units_of(ranks, /*whole_cores=*/false);
      matched = match(ranks, units);
    }
    std::vector<size_t> without;
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (matched[i] < 0) {
        without.push_back(ranks[i]);
        continue;
      }
      auto& unit = units[static_cast<size_t>(matched[i])];
      unit.taken = true;
      give(ranks[i], unit.cpus);
    }
    for (auto& unit : units) {
      if (unit.taken) continue;
      const auto poorest = std::min_element(unit.ranks.begin(), unit.ranks.end(), [&](size_t a, size_t b) {
        const auto key = [&](size_t r) {
          const auto& cpus = shares_.cpus[r];
          const bool neighbour = std::any_of(cpus.begin(), cpus.end(),
                                             [&](int cpu) { return place(cpu).node == place(unit.cpus[0]).node; });
          return std::make_tuple(cpus.size(), !neighbour, r);
        };
        return key(a) < key(b);
      });
      give(*poorest, unit.cpus);
    }
    for (const size_t r : without) {
      shares_.shared = true;
      shares_.cpus[r] = masks_[r];
      shares_.threads[r] = 1;
    }
  }

  void give(size_t rank, const Cpus& cpus) {
    auto& share = shares_.cpus[rank];
    share.insert(share.end(), cpus.begin(), cpus.end());
    shares_.threads[rank] = static_cast<int>(share.size());
  }

  std::vector<Cpus> masks_;
  std::vector<int> wanted_;
  std::map<int, CpuPlace> places_;
  CpuShares shares_;
};

}  // namespace

CpuShares share_cpus(const std::vector<std::vector<int>>& masks, const std::vector<int>& wanted_nodes,
                     const std::vector<CpuPlace>& topology) {
  VIXEN_CHECK(masks.size() == wanted_nodes.size(), "{} masks, {} wanted nodes", masks.size(), wanted_nodes.size());
  return Dealer(masks, wanted_nodes, topology).deal();
}

void limit_threads(CpuShares& shares, int limit) {
  if (limit <= 0) return;
  const size_t ranks = shares.threads.size(), most = static_cast<size_t>(limit);
  for (size_t r = 0; r < ranks; ++r) {
    const auto part = static_cast<int>(border(most, r + 1, ranks) - border(most, r, ranks));
    shares.threads[r] = std::max(1, std::min(shares.threads[r], part));
  }
}

std::string cpu_list_text(const std::vector<int>& cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", cpus[i]);
    if (last > i) text += fmt::format("-{}", cpus[last]);
    i = last + 1;
  }
  return text;
}

std::vector<int> parse_cpu_list(std::string_view text) {
  constexpr int kMostCpus = 1 << 20;
  std::vector<int> cpus;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    int first = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc() || first < 0 || first >= kMostCpus) break;
    int last = first;
    if (read.ptr != end && *read.ptr == '-') {
      read = std::from_chars(read.ptr + 1, end, last);
      if (read.ec != std::errc() || last < first || last >= kMostCpus) break;
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    at = read.ptr;
    if (at == end || *at != ',') break;
    ++at;
  }
  return cpus;
}

}  // namespace vixen
