// Cross entropy over columns that are spread over ranks. One block a token, as in cross_entropy.
#include "ops/softmax_terms.cuh"
#include "shoal/ops/vocab_cross_entropy.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr std::int64_t kMaxThreads = 512;

/// Column of the target in [0, V), or a number outside.
struct Columns {
  const std::int32_t* target_T;
  std::int64_t V, first_id;
  __device__ std::int64_t target(std::int64_t t) const { return target_T[t] - first_id; }
  __device__ bool holds(std::int64_t target) const { return target >= 0 && target < V; }
};

template <class Elem, int N>
__global__ void terms_kernel(float* terms_T3, const Elem* logits_TV, Columns columns) {
  const std::int64_t t = blockIdx.x;
  const Elem* x_V = logits_TV + t * columns.V;
  const SoftmaxTerms terms = row_terms<Elem, N>(x_V, columns.V);
  if (threadIdx.x != 0) return;
  const std::int64_t target = columns.target(t);
  terms_T3[3 * t] = terms.top;
  terms_T3[3 * t + 1] = terms.sum;
  terms_T3[3 * t + 2] = columns.holds(target) ? to_float(x_V[target]) : 0.0F;
}

/// The terms of one token from all ranks, in rank order.
struct RankTerms {
  const float* terms_RT3;
  std::int64_t ranks, T;
  struct Row {
    float top, sum, at_target;
  };
  __device__ Row meet(std::int64_t t) const {
    Row row{-FLT_MAX, 0.0F, 0.0F};
    for (std::int64_t r = 0; r < ranks; ++r) row.top = fmaxf(row.top, terms_RT3[(r * T + t) * 3]);
    for (std::int64_t r = 0; r < ranks; ++r) {
      const float* terms = terms_RT3 + (r * T + t) * 3;
      row.sum += terms[1] * expf(terms[0] - row.top);
      row.at_target += terms[2];
    }
    return row;
  }
};

struct Scale {
  const std::uint8_t* mask_T;
  const float* grad_scale;  ///< may be null: no gradient
};

template <class Elem, int N>
__global__ void loss_kernel(float* loss_T, Elem* logits_TV, RankTerms terms, Columns columns,
                            Scale a) {
  const std::int64_t t = blockIdx.x, V = columns.V;
  Elem* x_V = logits_TV + t * V;
  const bool masked = a.mask_T[t] == 0;
  const RankTerms::Row row = terms.meet(t);
  if (threadIdx.x == 0) {
    loss_T[t] = masked ? 0.0F : logf(row.sum) + (row.top - row.at_target);
  }
  if (a.grad_scale == nullptr) return;
  const std::int64_t target = columns.target(t);
  const float scale = *a.grad_scale, inverse = 1.0F / row.sum;
  for (std::int64_t v = std::int64_t{threadIdx.x} * N; v < V; v += std::int64_t{blockDim.x} * N) {
    Vec<float, N> gradient{};
    if (!masked) {
      const Vec<float, N> x = load_floats<N>(x_V + v);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float p = exp_of(x.v[i] - row.top) * inverse;
        gradient.v[i] = (v + i == target ? p - 1.0F : p) * scale;
      }
    }
    store_floats(x_V + v, gradient);
  }
}

/// Calls body(Elem{}, width) for the logits' type and the widest access that they allow.
template <class Body>
void with_logits(const ConstTensorView& logits_TV, const Body& body) {
  with_device_elem(logits_TV.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Elem* logits = device_data<Elem>(logits_TV);
    with_width<Elem>(allows_vectors<Elem>(logits_TV.dim(1), logits),
                     [&](auto width) { body(elem, width); });
  });
  check_launch();
}

}  // namespace

void vocab_terms(const Exec& exec, const VocabTerms& a) {
  const auto T = static_cast<unsigned>(a.logits_TV.dim(0));
  const std::int64_t V = a.logits_TV.dim(1);
  const Columns columns{device_data<std::int32_t>(a.target_T), V, a.first_id};
  with_logits(a.logits_TV, [&](auto elem, auto width) {
    using Elem = decltype(elem);
    constexpr int N = decltype(width)::value;
    const unsigned threads = threads_for(ceil_div(V, N), kMaxThreads);
    terms_kernel<Elem, N><<<T, threads, 0, exec.cuda().stream>>>(
        device_data<float>(a.terms_T3), device_data<Elem>(a.logits_TV), columns);
  });
}

void vocab_cross_entropy(const Exec& exec, const VocabCrossEntropy& a) {
  const std::int64_t T = a.logits_TV.dim(0), V = a.logits_TV.dim(1);
  const Columns columns{device_data<std::int32_t>(a.target_T), V, a.first_id};
  const RankTerms terms{device_data<float>(a.terms_RT3), a.terms_RT3.dim(0), T};
  const Scale scale{device_data<std::uint8_t>(a.mask_T), device_data<float>(a.grad_scale)};
  with_logits(a.logits_TV, [&](auto elem, auto width) {
    using Elem = decltype(elem);
    constexpr int N = decltype(width)::value;
    const unsigned threads = threads_for(ceil_div(V, N), kMaxThreads);
    loss_kernel<Elem, N><<<static_cast<unsigned>(T), threads, 0, exec.cuda().stream>>>(
        device_data<float>(a.loss_T), device_data<Elem>(a.logits_TV), terms, columns, scale);
  });
}

}  // namespace shoal::ops::cuda
