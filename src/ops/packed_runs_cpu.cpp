#include <algorithm>
#include <type_traits>

#include "ops/packed_runs_detail.hpp"

namespace shoal::ops::cpu {
namespace {

template <class To, class From>
void copy_elements(To* to, const From* from, std::int64_t n) {
  if constexpr (std::is_same_v<To, From>) {
    std::copy_n(from, n, to);
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = from_float<To>(to_float(from[i]));
  }
}

void copy_runs(const CopyRuns& a, const RunWork& work) {
  with_elem(a.to.dtype(), [&](auto target) {
    with_elem(a.from.dtype(), [&](auto source) {
      auto* to = a.to.data<decltype(target)>();
      const auto* from = a.from.data<decltype(source)>();
#pragma omp parallel for schedule(static) if (work.runs > 1)
      for (std::int64_t r = 0; r < work.runs; ++r) {
        const PackedRun& run = work.table[r];
        copy_elements(to + target_of(work, run), from + source_of(work, run), run.count);
      }
    });
  });
}

}  // namespace

void pack_runs(const Exec&, const CopyRuns& a) {
  copy_runs(a, run_work(a, true));
}

void unpack_runs(const Exec&, const CopyRuns& a) {
  copy_runs(a, run_work(a, false));
}

}  // namespace shoal::ops::cpu
