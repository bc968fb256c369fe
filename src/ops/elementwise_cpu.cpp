#include "shoal/ops/elementwise.hpp"

#include <algorithm>

#include "ops/cpu_math.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::ops::cpu {
namespace {

template <class To, class From>
void cast_elements(To* to, const From* from, std::int64_t n) {
#pragma omp parallel for simd if (parallel : n > kParallelWork)
  for (std::int64_t i = 0; i < n; ++i) to[i] = from_float<To>(to_float(from[i]));
}

template <class Elem>
void add_elements(Elem* y, const Elem* a, const Elem* b, std::int64_t n) {
#pragma omp parallel for simd if (parallel : n > kParallelWork)
  for (std::int64_t i = 0; i < n; ++i) y[i] = from_float<Elem>(to_float(a[i]) + to_float(b[i]));
}

}  // namespace

void cast(const Exec&, const TensorView& to, const ConstTensorView& from) {
  with_elem(to.dtype(), [&](auto target) {
    with_elem(from.dtype(), [&](auto source) {
      cast_elements(to.data<decltype(target)>(), from.data<decltype(source)>(), to.elements());
    });
  });
}

void add(const Exec&, const TensorView& y, const ConstTensorView& a, const ConstTensorView& b) {
  with_elem(y.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    add_elements(y.data<Elem>(), a.data<Elem>(), b.data<Elem>(), y.elements());
  });
}

void axpy(const Exec&, const TensorView& y_view, const ConstTensorView& x_view, float a) {
  float* y = y_view.data<float>();
  const float* x = x_view.data<float>();
  const std::int64_t n = y_view.elements();
#pragma omp parallel for simd if (parallel : n > kParallelWork)
  for (std::int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void fill(const Exec&, const TensorView& y, float value) {
  if (y.dtype() == DType::i32) {
    std::fill_n(y.data<std::int32_t>(), y.elements(), static_cast<std::int32_t>(value));
  } else {
    std::fill_n(y.data<float>(), y.elements(), value);
  }
}

void sum(const Exec&, const TensorView& out, const ConstTensorView& x_view,
         const TensorView& part_P) {
  const float* x = x_view.data<float>();
  const std::int64_t n = x_view.elements();
  const std::int64_t size = part_size(n);
#pragma omp parallel for if (n > kParallelWork)
  for (std::int64_t p = 0; p < part_P.dim(0); ++p) {
    float part = 0.0F;
#pragma omp simd reduction(+ : part)
    for (std::int64_t i = p * size; i < std::min(n, (p + 1) * size); ++i) part += x[i];
    part_P.data<float>()[p] = part;
  }
  sum_parts(out, part_P, Accumulate::overwrite);
}

}  // namespace shoal::ops::cpu
