#include <algorithm>

#include "ops/cpu_math.hpp"
#include "shoal/base/math.hpp"
#include "shoal/ops/embedding.hpp"

namespace shoal::ops::cpu {
namespace {

constexpr std::int64_t kColumns = 64;  // of a backward slice: no cache line has two writers

template <class Elem>
void forward(const EmbeddingForward& a) {
  const std::int64_t T = a.token_T.dim(0);
  const std::int64_t D = a.table_VD.dim(1);
  const std::int32_t* token_T = a.token_T.data<std::int32_t>();
  const Elem* table_VD = a.table_VD.data<Elem>();
  Elem* x_TD = a.x_TD.data<Elem>();
#pragma omp parallel for if (T * D > kParallelWork)
  for (std::int64_t t = 0; t < T; ++t) {
    const std::int64_t row = token_T[t] - a.first_id;
    if (row >= 0 && row < a.table_VD.dim(0)) {
      std::copy_n(table_VD + row * D, D, x_TD + t * D);
    } else {
      std::fill_n(x_TD + t * D, D, from_float<Elem>(0.0F));
    }
  }
}

/// Threads share the columns, not the tokens, so that every sum runs in ascending t.
template <class Elem>
void backward(const EmbeddingBackward& a) {
  const std::int64_t T = a.token_T.dim(0);
  const std::int64_t D = a.dtable_VD.dim(1);
  const std::int32_t* token_T = a.token_T.data<std::int32_t>();
  const Elem* dx_TD = a.dx_TD.data<Elem>();
  float* dtable_VD = a.dtable_VD.data<float>();
#pragma omp parallel for if (T * D > kParallelWork)
  for (std::int64_t slice = 0; slice < ceil_div(D, kColumns); ++slice) {
    const std::int64_t end = std::min(D, (slice + 1) * kColumns);
    for (std::int64_t t = 0; t < T; ++t) {
      const std::int64_t row = token_T[t] - a.first_id;
      if (row < 0 || row >= a.dtable_VD.dim(0)) continue;
      float* row_D = dtable_VD + row * D;
      const Elem* dx_D = dx_TD + t * D;
#pragma omp simd
      for (std::int64_t d = slice * kColumns; d < end; ++d) row_D[d] += to_float(dx_D[d]);
    }
  }
}

}  // namespace

void embedding_forward(const Exec&, const EmbeddingForward& a) {
  with_elem(a.table_VD.dtype(), [&](auto elem) { forward<decltype(elem)>(a); });
}
void embedding_backward(const Exec&, const EmbeddingBackward& a) {
  with_elem(a.dx_TD.dtype(), [&](auto elem) { backward<decltype(elem)>(a); });
}

}  // namespace shoal::ops::cpu
