// Cross entropy. One block a token: one pass over the logits keeps a running maximum and the sum of
// exponentials relative to it (Milakov & Gimelshein 2018, arXiv:1805.02867), a second pass writes
// the gradient in place.
#include "ops/softmax_terms.cuh"
#include "shoal/ops/cross_entropy.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr std::int64_t kMaxThreads = 512;

template <class Elem>
struct Rows {
  float* loss_T;
  Elem* logits_TV;
  const std::int32_t* target_T;
  const std::uint8_t* mask_T;
  const float* grad_scale;  ///< may be null: no gradient
  std::int64_t V;
};

template <class Elem, int N>
__global__ void cross_entropy_kernel(Rows<Elem> a) {
  const std::int64_t t = blockIdx.x;
  Elem* x_V = a.logits_TV + t * a.V;
  const std::int64_t target = a.target_T[t];
  const bool masked = a.mask_T[t] == 0;
  SoftmaxTerms terms;
  if (!masked) terms = row_terms<Elem, N>(x_V, a.V);
  if (threadIdx.x == 0) {
    a.loss_T[t] = masked ? 0.0F : logf(terms.sum) + (terms.top - to_float(x_V[target]));
  }
  if (a.grad_scale == nullptr) return;
  __syncthreads();  // thread 0 has read the target's logit
  const float scale = *a.grad_scale;
  const float inverse = 1.0F / terms.sum;
  for (std::int64_t v = std::int64_t{threadIdx.x} * N; v < a.V; v += std::int64_t{blockDim.x} * N) {
    Vec<float, N> gradient{};
    if (!masked) {
      const Vec<float, N> x = load_floats<N>(x_V + v);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float p = expf(x.v[i] - terms.top) * inverse;
        gradient.v[i] = (v + i == target ? p - 1.0F : p) * scale;
      }
    }
    store_floats(x_V + v, gradient);
  }
}

}  // namespace

void cross_entropy(const Exec& exec, const CrossEntropy& a) {
  const auto T = static_cast<unsigned>(a.logits_TV.dim(0));
  const std::int64_t V = a.logits_TV.dim(1);
  with_device_elem(a.logits_TV.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Rows<Elem> rows{.loss_T = a.loss_T.data<float>(),
                          .logits_TV = device_data<Elem>(a.logits_TV),
                          .target_T = a.target_T.data<std::int32_t>(),
                          .mask_T = a.mask_T.data<std::uint8_t>(),
                          .grad_scale = device_data<float>(a.grad_scale),
                          .V = V};
    with_width<Elem>(allows_vectors<Elem>(V, rows.logits_TV), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const unsigned threads = threads_for(ceil_div(V, N), kMaxThreads);
      cross_entropy_kernel<Elem, N><<<T, threads, 0, exec.cuda().stream>>>(rows);
    });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
