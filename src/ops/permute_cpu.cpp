#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/cpu_math.hpp"
#include "shoal/ops/permute.hpp"

namespace shoal::ops::cpu {

void route_plan(const Exec& exec, const RoutePlan& a) {
  const std::int64_t slots = a.index_TK.elements(), E = a.count_E.dim(0);
  const std::int32_t* index = a.index_TK.data<std::int32_t>();
  std::int32_t* count_E = a.count_E.data<std::int32_t>();
  std::int32_t* offset_E1 = a.offset_E1.data<std::int32_t>();
  std::int32_t* row_of_slot = a.row_of_slot_TK.data<std::int32_t>();
  std::int32_t* slot_of_row = a.slot_of_row_R.data<std::int32_t>();
  const auto capacity =
      static_cast<std::int32_t>(a.capacity == 0 ? slots : std::min(a.capacity, slots));

  zero(exec, a.count_E);
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    if (index[slot] >= 0) ++count_E[index[slot]];
  }
  offset_E1[0] = 0;
  for (std::int64_t e = 0; e < E; ++e) {
    offset_E1[e + 1] = offset_E1[e] + std::min(count_E[e], capacity);
  }
  std::fill(slot_of_row + offset_E1[E], slot_of_row + a.slot_of_row_R.dim(0), -1);
  zero(exec, a.count_E);  // now the rows taken so far
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    const std::int32_t e = index[slot];
    if (e < 0 || count_E[e] >= capacity) {
      row_of_slot[slot] = -1;
      continue;
    }
    const std::int32_t row = offset_E1[e] + count_E[e]++;
    row_of_slot[slot] = row;
    slot_of_row[row] = static_cast<std::int32_t>(slot);
  }
}

void gather_rows(const Exec&, const GatherRows& a) {
  const std::int64_t R = a.rows_RD.dim(0), bytes = a.rows_RD.dim(1) * size_of(a.x_TD.dtype());
  const std::int32_t* slot_of_row = a.slot_of_row_R.data<std::int32_t>();
#pragma omp parallel for schedule(static) if (R * bytes > kParallelWork)
  for (std::int64_t r = 0; r < R; ++r) {
    if (slot_of_row[r] < 0) continue;
    const std::int64_t t = slot_of_row[r] / a.slots_per_token;
    std::memcpy(a.rows_RD.bytes_begin() + r * bytes, a.x_TD.bytes_begin() + t * bytes,
                static_cast<std::size_t>(bytes));
  }
}

void scatter_rows(const Exec&, const ScatterRows& a) {
  const std::int64_t T = a.x_TD.dim(0), bytes = a.x_TD.dim(1) * size_of(a.x_TD.dtype());
  const std::int64_t K = a.row_of_slot_TK.dim(1);
  const std::int32_t* row_of_slot = a.row_of_slot_TK.data<std::int32_t>();
#pragma omp parallel for schedule(static) if (T * K * bytes > kParallelWork)
  for (std::int64_t slot = 0; slot < T * K; ++slot) {
    if (row_of_slot[slot] < 0) continue;
    std::memcpy(a.rows_RD.bytes_begin() + row_of_slot[slot] * bytes,
                a.x_TD.bytes_begin() + slot / K * bytes, static_cast<std::size_t>(bytes));
  }
}

namespace {

template <class Elem>
void combine(const CombineRows& a) {
  const std::int64_t T = a.y_TD.dim(0), D = a.y_TD.dim(1), K = a.row_of_slot_TK.dim(1);
  const Elem* rows_RD = a.rows_RD.data<Elem>();
  const Elem* add_TD = optional_data<Elem>(a.add_TD);
  const float* weight_TK = optional_data<float>(a.weight_TK);
  const std::int32_t* row_of_slot_TK = a.row_of_slot_TK.data<std::int32_t>();
  Elem* y_TD = a.y_TD.data<Elem>();
#pragma omp parallel for schedule(static) if (T * K * D > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    constexpr std::int64_t kTile = 256;  // fp32 sums of one tile of the row stay in the L1 cache
    for (std::int64_t begin = 0; begin < D; begin += kTile) {
      const std::int64_t width = std::min(kTile, D - begin);
      float sum[kTile] = {};
      for (std::int64_t k = 0; k < K; ++k) {
        const std::int64_t row = row_of_slot_TK[t * K + k];
        if (row < 0) continue;
        const float weight = weight_TK == nullptr ? 1.0F : weight_TK[t * K + k];
        const Elem* from = rows_RD + row * D + begin;
        for (std::int64_t d = 0; d < width; ++d) {
          sum[d] = std::fma(weight, to_float(from[d]), sum[d]);
        }
      }
      for (std::int64_t d = 0; d < width; ++d) {
        const std::int64_t at = t * D + begin + d;
        const float add = add_TD == nullptr ? 0.0F : to_float(add_TD[at]);
        y_TD[at] = from_float<Elem>(add + sum[d]);
      }
    }
  }
}

}  // namespace

void combine_rows(const Exec&, const CombineRows& a) {
  with_elem(a.y_TD.dtype(), [&](auto elem) { combine<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
