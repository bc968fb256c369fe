#include <algorithm>

#include "ops/cpu_math.hpp"
#include "ops/dropout_mask.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::ops::cpu {
namespace {

template <class Elem>
void fill_elements(const FillNormal& a) {
  Elem* y = a.y.data<Elem>();
  const std::int64_t n = a.y.elements();
#pragma omp parallel for if (n > kParallelWork)
  for (std::int64_t i = 0; i < n; ++i) {
    const auto index = static_cast<std::uint64_t>(a.first + i);
    y[i] = from_float<Elem>(
        a.std * philox::normal(philox::block(a.seed, philox::Purpose::weights, index, a.stream)));
  }
}

template <class Elem>
void drop_elements(const Dropout& a) {
  const auto seed = static_cast<std::uint64_t>(*a.step_seed.data<std::int64_t>());
  const DropoutKey key{.seed = seed, .stream = a.stream, .p = a.p};
  const float scale = 1.0F / (1.0F - a.p);
  const Elem* x = a.x.data<Elem>();
  const Elem* add = optional_data<Elem>(a.add);
  Elem* y = a.y.data<Elem>();
  const std::int64_t n = a.y.elements();
  const std::int64_t last_group = (a.first + n - 1) / DropoutGroup::kSize;
#pragma omp parallel for if (n > kParallelWork)
  for (std::int64_t group = a.first / DropoutGroup::kSize; group <= last_group; ++group) {
    const DropoutGroup mask = dropout_group(key, group);
    for (int lane = 0; lane < DropoutGroup::kSize; ++lane) {
      const std::int64_t i = group * DropoutGroup::kSize + lane - a.first;
      if (i < 0 || i >= n) continue;
      const float kept = mask.keep[lane] ? to_float(x[i]) * scale : 0.0F;
      y[i] = from_float<Elem>(add == nullptr ? kept : to_float(add[i]) + kept);
    }
  }
}

}  // namespace

void fill_normal(const Exec&, const FillNormal& a) {
  with_elem(a.y.dtype(), [&](auto elem) { fill_elements<decltype(elem)>(a); });
}
void dropout(const Exec&, const Dropout& a) {
  with_elem(a.y.dtype(), [&](auto elem) { drop_elements<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
