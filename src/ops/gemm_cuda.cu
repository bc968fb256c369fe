#include "shoal/ops/gemm.hpp"

#include <cublasLt.h>

#include <array>
#include <cstring>
#include <string>

#include "ops/cuda_common.cuh"

namespace shoal::ops::cuda {
namespace {

using shoal::cuda::check;

/// c = op(a) op(b) row-major is, column-major, c^T = op(b)^T op(a)^T: cuBLAS gets b first.
struct Form {
  bool a_transposed, b_transposed;
  std::int64_t inner;
};

cudaDataType_t cuda_type(DType dtype) {
  return dtype == DType::f32 ? CUDA_R_32F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

/// Descriptors of one product; plain memory, nothing to release. cuBLASLt takes them non-const.
struct Descriptors {
  cublasLtMatmulDescOpaque_t product{};
  cublasLtMatrixLayoutOpaque_t a{}, b{}, c{};

  Descriptors(const Gemm& g, const Form& form) {
    check(cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, form.b_transposed);
    set(CUBLASLT_MATMUL_DESC_TRANSB, form.a_transposed);
    layout(a, g.b);
    layout(b, g.a);
    layout(c, g.c);
  }

 private:
  void set(cublasLtMatmulDescAttributes_t attribute, bool transposed) {
    const cublasOperation_t value = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublasLtMatmulDescSetAttribute(&product, attribute, &value, sizeof value));
  }
  static void layout(cublasLtMatrixLayoutOpaque_t& l, const ConstTensorView& x) {
    check(cublasLtMatrixLayoutInit(&l, cuda_type(x.dtype()), static_cast<std::uint64_t>(x.dim(1)),
                                   static_cast<std::uint64_t>(x.dim(0)), x.dim(1)));
  }
};

/// Largest power of two up to 256 that divides the address.
std::uint32_t alignment(const ConstTensorView& x) {
  const auto address = reinterpret_cast<std::uintptr_t>(x.bytes_begin());
  std::uint32_t bytes = 256;
  while (address % bytes != 0) bytes /= 2;
  return bytes;
}

AlgorithmCache::Algorithm choose(const Exec& exec, const Gemm& g, Descriptors& d) {
  cublasLtMatmulPreferenceOpaque_t preference{};
  check(cublasLtMatmulPreferenceInit(&preference));
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      static_cast<std::uint64_t>(exec.cuda().blas_workspace_bytes));
  // Partial sums of a split inner dimension stay in fp32 whatever c is.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(g.b));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(g.a));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(g.c));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(g.c));
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  check(cublasLtMatmulAlgoGetHeuristic(exec.cuda().blas_lt, &d.product, &d.a, &d.b, &d.c, &d.c,
                                       &preference, 1, &result, &found));
  if (found == 0) {
    fail("cuBLAS", "no algorithm for c " + to_string(g.c.shape()) + " = a " +
                       to_string(g.a.shape()) + " times b " + to_string(g.b.shape()));
  }
  AlgorithmCache::Algorithm words{};
  static_assert(sizeof words == sizeof result.algo);
  std::memcpy(words.data(), &result.algo, sizeof words);
  return words;
}

AlgorithmCache::Key key_of(const Gemm& g, const Form& form) {
  return {g.c.dim(0),
          g.c.dim(1),
          form.inner,
          form.a_transposed,
          form.b_transposed,
          static_cast<std::int64_t>(g.a.dtype()),
          static_cast<std::int64_t>(g.c.dtype()),
          alignment(g.a),
          alignment(g.b),
          alignment(g.c)};
}

void run(const Exec& exec, const Gemm& g, const Form& form) {
  const bool add = g.accumulate == Accumulate::add;
  if (form.inner == 0) {
    if (!add) zero(exec, g.c);
    return;
  }
  Descriptors d{g, form};
  const auto& words =
      exec.cuda().algorithms->find_or(key_of(g, form), [&] { return choose(exec, g, d); });
  cublasLtMatmulAlgo_t algorithm{};
  std::memcpy(&algorithm, words.data(), sizeof algorithm);
  const float alpha = 1.0F, beta = add ? 1.0F : 0.0F;
  check(cublasLtMatmul(exec.cuda().blas_lt, &d.product, &alpha, g.b.bytes_begin(), &d.a,
                       g.a.bytes_begin(), &d.b, &beta, g.c.bytes_begin(), &d.c, g.c.bytes_begin(),
                       &d.c, &algorithm, exec.cuda().blas_workspace,
                       static_cast<std::size_t>(exec.cuda().blas_workspace_bytes),
                       exec.cuda().stream));
}

}  // namespace

void gemm_nt(const Exec& exec, const Gemm& g) {
  run(exec, g, {.a_transposed = false, .b_transposed = true, .inner = g.a.dim(1)});
}
void gemm_nn(const Exec& exec, const Gemm& g) {
  run(exec, g, {.a_transposed = false, .b_transposed = false, .inner = g.a.dim(1)});
}
void gemm_tn(const Exec& exec, const Gemm& g) {
  run(exec, g, {.a_transposed = true, .b_transposed = false, .inner = g.a.dim(0)});
}

}  // namespace shoal::ops::cuda
