// Cross entropy. One block a token: one pass over the logits keeps a running maximum and the sum of
// exponentials relative to it (Milakov & Gimelshein 2018, arXiv:1805.02867), a second one writes
// the gradient in place. A row that leaves room for another block stays in shared memory between
// them, where each thread finds what it read itself.
#include "ops/softmax_terms.cuh"
#include "shoal/ops/cross_entropy.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr unsigned kMaxThreads = 512;
constexpr std::size_t kReserved =
    2048;  // bytes of shared memory that a block needs for other things

template <class Elem>
struct Rows {
  float* loss_T;
  Elem* logits_TV;
  const std::int32_t* target_T;
  const std::uint8_t* mask_T;
  const float* grad_scale;  ///< may be null: no gradient
  std::int64_t V;
};

template <class Elem, int N, bool kKeep>
__global__ void __launch_bounds__(kMaxThreads) cross_entropy_kernel(Rows<Elem> a) {
  extern __shared__ __align__(16) unsigned char shared[];
  Elem* kept_V = kKeep ? reinterpret_cast<Elem*>(shared) : nullptr;
  const std::int64_t t = blockIdx.x, target = a.target_T[t];
  Elem* x_V = a.logits_TV + t * a.V;
  const bool masked = a.mask_T[t] == 0;
  SoftmaxTerms terms;
  float at_target = 0.0F;
  if (!masked) {
    at_target = to_float(x_V[target]);
    terms = row_terms<Elem, N>(x_V, a.V, kept_V);  // a barrier: all have read the target's logit
  }
  if (threadIdx.x == 0) a.loss_T[t] = masked ? 0.0F : logf(terms.sum) + (terms.top - at_target);
  if (a.grad_scale == nullptr) return;
  const float scale = *a.grad_scale, factor = scale / terms.sum;
  const Elem* source_V = kKeep ? kept_V : x_V;
  for (std::int64_t v = std::int64_t{threadIdx.x} * N; v < a.V; v += std::int64_t{blockDim.x} * N) {
    Vec<float, N> gradient{};
    if (!masked) {
      gradient = load_floats<N>(source_V + v);
#pragma unroll
      for (int i = 0; i < N; ++i) gradient.v[i] = exp_of(gradient.v[i] - terms.top) * factor;
    }
    store_floats(x_V + v, gradient);
  }
  if (!masked && target / N % blockDim.x == threadIdx.x) {  // the thread that wrote it above
    const float p = exp_of(at_target - terms.top) / terms.sum;
    x_V[target] = from_float<Elem>((p - 1.0F) * scale);
  }
}

/// Bytes of shared memory that keep a row while two blocks share a multiprocessor; 0: too many.
std::size_t kept_bytes(std::int64_t V, std::int64_t elem_bytes) {
  int device = 0, most = 0;
  shoal::cuda::check(cudaGetDevice(&device));
  shoal::cuda::check(
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device));
  const auto bytes = static_cast<std::size_t>(V * elem_bytes);
  return bytes + kReserved <= static_cast<std::size_t>(most) / 2 ? bytes : 0;
}

template <class Elem, int N>
void launch(const Exec& exec, const Rows<Elem>& rows, std::int64_t T) {
  const unsigned threads = threads_for(ceil_div(rows.V, N), kMaxThreads);
  const std::size_t kept = kept_bytes(rows.V, sizeof(Elem));
  const auto start = [&](auto* kernel, std::size_t bytes) {
    kernel<<<static_cast<unsigned>(T), threads, bytes, exec.cuda().stream>>>(rows);
  };
  if (kept == 0 || rows.grad_scale == nullptr) {
    return start(cross_entropy_kernel<Elem, N, false>, 0);
  }
  auto* kernel = cross_entropy_kernel<Elem, N, true>;
  shoal::cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(kept)));
  start(kernel, kept);
}

}  // namespace

void cross_entropy(const Exec& exec, const CrossEntropy& a) {
  const std::int64_t T = a.logits_TV.dim(0), V = a.logits_TV.dim(1);
  with_device_elem(a.logits_TV.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const Rows<Elem> rows{.loss_T = a.loss_T.data<float>(),
                          .logits_TV = device_data<Elem>(a.logits_TV),
                          .target_T = a.target_T.data<std::int32_t>(),
                          .mask_T = a.mask_T.data<std::uint8_t>(),
                          .grad_scale = device_data<float>(a.grad_scale),
                          .V = V};
    with_width<Elem>(allows_vectors<Elem>(V, rows.logits_TV),
                     [&](auto width) { launch<Elem, decltype(width)::value>(exec, rows, T); });
  });
  check_launch();
}

}  // namespace shoal::ops::cuda
