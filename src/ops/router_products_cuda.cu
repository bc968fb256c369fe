#include "ops/grouped_gemm.cuh"
#include "ops/hopper/router_input_gradient.cuh"
#include "ops/hopper/thin_product.cuh"
#include "ops/router_products_detail.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::ops::cuda {
namespace {

static_assert(kProductRows == hopper::kThinRows && kProductColumns == hopper::kThinColumns);

/// Rows of x are read by the copy engine, rows of an fp32 operand likewise: multiples of 16 bytes.
bool allows_wgmma(const Exec& exec, const ConstTensorView& x_TD, const ConstTensorView& a,
                  const ConstTensorView& b) {
  return kHasWgmma && exec.cuda().compute_capability == 90 && x_TD.dtype() == DType::bf16 &&
         x_TD.dim(1) % 8 == 0 && a.dim(1) % 4 == 0 && b.dim(1) % 4 == 0 &&
         aligned_for_vectors(x_TD.bytes_begin(), a.bytes_begin(), b.bytes_begin());
}

CUtensorMap map_of(const ConstTensorView& matrix, int box_rows) {
  return hopper::make_tensor_map({.data = matrix.bytes_begin(),
                                  .dtype = matrix.dtype(),
                                  .matrices = 1,
                                  .rows = matrix.dim(0),
                                  .columns = matrix.dim(1),
                                  .box_rows = box_rows});
}

template <class Kernel>
void allow_shared(Kernel kernel, std::size_t bytes) {
  shoal::cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(bytes)));
}

template <bool kInnerFirst>
void launch_thin(const Exec& exec, const hopper::ThinCall& call, const ConstTensorView& a,
                 const ConstTensorView& x) {
  using Stage = hopper::ThinStage<kInnerFirst>;
  const auto kernel = &hopper::thin_kernel<kInnerFirst>;
  const std::size_t bytes = hopper::ThinShared<kInnerFirst>::bytes();
  allow_shared(kernel, bytes);
  const dim3 grid{blocks_for(call.columns, kProductColumns), blocks_for(call.rows, kProductRows),
                  blocks_for(call.inner, call.inner_of_block)};
  kernel<<<grid, hopper::kThinThreads, bytes, exec.cuda().stream>>>(
      call, map_of(a, Stage::kBoxLines), map_of(x, Stage::X::kBoxRows));
  check_launch();
}

}  // namespace

bool router_logits(const Exec& exec, const RouterLogits& a) {
  if (!allows_wgmma(exec, a.x_TD, a.w_ED, a.w_ED)) return false;
  const auto inner = static_cast<int>(a.x_TD.dim(1));
  launch_thin<false>(exec,
                     {.c = device_data<float>(a.logits_TE),
                      .rows = static_cast<int>(a.w_ED.dim(0)),
                      .columns = static_cast<int>(a.x_TD.dim(0)),
                      .inner = inner,
                      .inner_of_block = static_cast<int>(round_up(inner, hopper::kStageInner)),
                      .add = false},
                     a.w_ED, a.x_TD);
  return true;
}

bool router_weight_gradient(const Exec& exec, const RouterWeightGradient& a,
                            const TensorView& part_PED) {
  if (!allows_wgmma(exec, a.x_TD, a.dlogits_TE, a.dw_ED)) return false;
  const std::int64_t tokens = a.x_TD.dim(0);
  const std::int64_t each =
      round_up(ceil_div(tokens, part_PED.dim(0)), std::int64_t{hopper::kStageInner});
  const std::int64_t parts = ceil_div(tokens, each);
  launch_thin<true>(exec,
                    {.c = device_data<float>(parts > 1 ? part_PED : a.dw_ED),
                     .rows = static_cast<int>(a.dw_ED.dim(0)),
                     .columns = static_cast<int>(a.dw_ED.dim(1)),
                     .inner = static_cast<int>(tokens),
                     .inner_of_block = static_cast<int>(each),
                     .add = parts == 1 && a.accumulate == Accumulate::add},
                    a.dlogits_TE, a.x_TD);
  if (parts > 1) cuda::sum_parts(exec, a.dw_ED, part_PED.rows(0, parts), a.accumulate);
  return true;
}

bool router_input_gradient(const Exec& exec, const RouterInputGradient& a) {
  constexpr int kMostShared = 227 * 1024;
  const auto experts = static_cast<int>(a.w_ED.dim(0)), columns = static_cast<int>(a.w_ED.dim(1));
  const std::size_t bytes = hopper::Slab::bytes(experts);
  if (!allows_wgmma(exec, a.dx_TD, a.dlogits_TE, a.w_ED) || bytes > kMostShared) return false;
  const hopper::InputGradientCall call{.dx = device_data<__nv_bfloat16>(a.dx_TD),
                                       .dlogits = device_data<float>(a.dlogits_TE),
                                       .w = device_data<float>(a.w_ED),
                                       .tokens = a.dx_TD.dim(0),
                                       .experts = experts,
                                       .columns = columns};
  allow_shared(&hopper::input_gradient_kernel, bytes);
  const unsigned slabs = blocks_for(columns, hopper::kSlabColumns);
  const unsigned at_once = std::max(static_cast<unsigned>(exec.cuda().multiprocessors) / slabs, 1U);
  const dim3 grid{slabs,
                  blocks_for(call.tokens, hopper::kSlabWarpgroups * hopper::kSlabTokens, at_once)};
  hopper::input_gradient_kernel<<<grid, hopper::kSlabThreads, bytes, exec.cuda().stream>>>(call);
  check_launch();
  return true;
}

}  // namespace shoal::ops::cuda
