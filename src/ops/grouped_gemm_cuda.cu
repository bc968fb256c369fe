#include "ops/grouped_gemm.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kTile = 64;      // rows and columns of c that a block owns
constexpr int kInner = 16;     // inner indices in shared memory at once
constexpr int kThreads = 256;  // 16 x 16, each with 4 x 4 sums

/// One operand's block [kInner][kTile] in shared memory. kInnerFirst: so it lies in global memory
/// too, otherwise there it is [outer][inner].
template <bool kInnerFirst>
__device__ void load_block(float (&shared)[kInner][kTile + 4], const float* global,
                           std::int64_t stride, int outer, int inner, int k0) {
#pragma unroll
  for (int i = 0; i < kInner * kTile / kThreads; ++i) {
    const int n = static_cast<int>(threadIdx.x) + i * kThreads;
    const int k = kInnerFirst ? n / kTile : n % kInner;
    const int o = kInnerFirst ? n % kTile : n / kInner;
    const bool inside = o < outer && k0 + k < inner;
    const std::int64_t at = kInnerFirst ? (std::int64_t{k0} + k) * stride + o : o * stride + k0 + k;
    shared[k][o] = inside ? global[at] : 0.0F;
  }
}

/// fp32 products on the ordinary cores: exact fp32, no TF32.
template <GroupedForm kForm>
__global__ void __launch_bounds__(kThreads) grouped_simt_kernel(const GroupedCall call) {
  extern __shared__ int tile_end[];
  __shared__ float a[kInner][kTile + 4], b[kInner][kTile + 4];
  const GroupedTiles<float, float, kForm, kTile> tiles{tile_end, call};
  const int row = static_cast<int>(threadIdx.x) / 16 * 4;
  const int column = static_cast<int>(threadIdx.x) % 16;
  for (std::int64_t index = blockIdx.x; index < tiles.count(); index += gridDim.x) {
    const auto tile = tiles[index];
    float sums[4][4] = {};
    for (int k0 = 0; k0 < tile.inner; k0 += kInner) {
      load_block<kForm == GroupedForm::tn>(a, tile.a, tile.a_stride, tile.rows, tile.inner, k0);
      load_block<kForm != GroupedForm::nt>(b, tile.b, tile.b_stride, tile.columns, tile.inner, k0);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kInner; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            sums[i][j] = fmaf(a[k][row + i], b[k][column + j * 16], sums[i][j]);
          }
        }
      }
      __syncthreads();
    }
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) {
        const int r = row + i, c = column + j * 16;
        if (r >= tile.rows || c >= tile.columns) continue;
        store_sum(tile.c + r * tile.c_stride + c, sums[i][j], call.add);
      }
    }
  }
}

template <GroupedForm kForm>
void launch_simt(const Exec& exec, const GroupedCall& call, std::int64_t rows) {
  const unsigned blocks = blocks_of(call, {.rows = rows,
                                           .form = kForm,
                                           .tile = kTile,
                                           .blocks_at_once = 8 * exec.cuda().multiprocessors});
  const std::size_t bytes = static_cast<std::size_t>(call.experts) * sizeof(int);
  grouped_simt_kernel<kForm><<<blocks, kThreads, bytes, exec.cuda().stream>>>(call);
  check_launch();
}

/// Matrices in fp32 are always written as they are summed; rows only in the elements' own type.
bool takes_wgmma(const Exec& exec, const GroupedCall& call, const GroupedGemm& g) {
  const bool matrices = g.c.shape().rank() == 3;
  return allows_wgmma(exec, call, g.a.dim(0)) &&
         (matrices || (g.c.dtype() == g.a.dtype() && !call.add));
}

/// `matrices` is the operand or result of shape [E, N, K].
template <GroupedForm kForm>
void run(const Exec& exec, const GroupedGemm& g, const ConstTensorView& matrices) {
  const GroupedCall call{.a = g.a.bytes_begin(),
                         .b = g.b.bytes_begin(),
                         .c = g.c.bytes_begin(),
                         .offsets = g.offsets_E1.data<std::int32_t>(),
                         .experts = static_cast<int>(matrices.dim(0)),
                         .n = matrices.dim(1),
                         .k = matrices.dim(2),
                         .add = g.accumulate == Accumulate::add};
  if (g.a.dtype() == DType::f32) {
    launch_simt<kForm>(exec, call, g.a.dim(0));
  } else if (takes_wgmma(exec, call, g)) {
    grouped_wgmma<kForm>(exec, call, g);
  } else {
    grouped_mma<kForm>(exec, call, g);
  }
}

}  // namespace

// Instantiated in a file for each form: they take long to compile.
extern template void grouped_mma<GroupedForm::nt>(const Exec&, const GroupedCall&,
                                                  const GroupedGemm&);
extern template void grouped_mma<GroupedForm::nn>(const Exec&, const GroupedCall&,
                                                  const GroupedGemm&);
extern template void grouped_mma<GroupedForm::tn>(const Exec&, const GroupedCall&,
                                                  const GroupedGemm&);
extern template void grouped_wgmma<GroupedForm::nt>(const Exec&, const GroupedCall&,
                                                    const GroupedGemm&);
extern template void grouped_wgmma<GroupedForm::nn>(const Exec&, const GroupedCall&,
                                                    const GroupedGemm&);
extern template void grouped_wgmma<GroupedForm::tn>(const Exec&, const GroupedCall&,
                                                    const GroupedGemm&);

void grouped_gemm_nt(const Exec& exec, const GroupedGemm& g) {
  run<GroupedForm::nt>(exec, g, g.b);
}
void grouped_gemm_nn(const Exec& exec, const GroupedGemm& g) {
  run<GroupedForm::nn>(exec, g, g.b);
}
void grouped_gemm_tn(const Exec& exec, const GroupedGemm& g) {
  run<GroupedForm::tn>(exec, g, g.c);
}

}  // namespace shoal::ops::cuda
