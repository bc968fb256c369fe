#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Dense matrix product, row-major. a and b share one elem dtype; c has that dtype or f32. Products
/// are summed in fp32. An empty inner dimension gives zeros (overwrite) or leaves c (add).
struct Gemm {
  TensorView c;
  ConstTensorView a;
  ConstTensorView b;
  Accumulate accumulate = Accumulate::overwrite;
};
void gemm_nt(const Exec& exec, const Gemm& args);  ///< c[M,N] = a[M,K] b[N,K]^T: linear forward
void gemm_nn(const Exec& exec, const Gemm& args);  ///< c[M,K] = a[M,N] b[N,K]:   input gradient
void gemm_tn(const Exec& exec, const Gemm& args);  ///< c[N,K] = a[M,N]^T b[M,K]: weight gradient

/// The same for rows sorted by expert: rows [offsets[e], offsets[e+1]) of the row operands meet
/// matrix e. Offsets are read on the device; experts may be empty; rows from offsets[E] on are
/// neither read nor written. R, the number of rows, is the worst case.
struct GroupedGemm {
  TensorView c;
  ConstTensorView a;
  ConstTensorView b;
  ConstTensorView offsets_E1;  ///< i32 [E+1], ascending from 0
  Accumulate accumulate = Accumulate::overwrite;
};
void grouped_gemm_nt(const Exec& exec, const GroupedGemm& args);  ///< c[R,N] = a[R,K] b[E,N,K]^T
void grouped_gemm_nn(const Exec& exec, const GroupedGemm& args);  ///< c[R,K] = a[R,N] b[E,N,K]
/// c[E,N,K] = a[R_e,N]^T b[R_e,K], c in f32; an empty expert writes zeros on overwrite.
void grouped_gemm_tn(const Exec& exec, const GroupedGemm& args);

namespace cpu {
void gemm_nt(const Exec& exec, const Gemm& args);
void gemm_nn(const Exec& exec, const Gemm& args);
void gemm_tn(const Exec& exec, const Gemm& args);
void grouped_gemm_nt(const Exec& exec, const GroupedGemm& args);
void grouped_gemm_nn(const Exec& exec, const GroupedGemm& args);
void grouped_gemm_tn(const Exec& exec, const GroupedGemm& args);
}  // namespace cpu
namespace cuda {
void gemm_nt(const Exec& exec, const Gemm& args);
void gemm_nn(const Exec& exec, const Gemm& args);
void gemm_tn(const Exec& exec, const Gemm& args);
void grouped_gemm_nt(const Exec& exec, const GroupedGemm& args);
void grouped_gemm_nn(const Exec& exec, const GroupedGemm& args);
void grouped_gemm_tn(const Exec& exec, const GroupedGemm& args);
}  // namespace cuda
}  // namespace shoal::ops
