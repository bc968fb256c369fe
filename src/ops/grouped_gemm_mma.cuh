#pragma once
// Grouped matrix product for bf16 and f16 on tensor cores. A block owns a 128 x 128 tile of c and
// walks the inner dimension in blocks of 32 through a ring of four shared-memory stages that
// cp.async fills ahead; eight warps hold 64 x 32 sums each in registers. Blocks are persistent and
// step through the tiles in a fixed order; each tile is summed by one block: deterministic.
#include "ops/grouped_gemm.cuh"
#include "ops/mma.cuh"

namespace shoal::ops::cuda {

inline constexpr int kGroupedTile = 128;
inline constexpr int kGroupedInner = 32;
inline constexpr int kGroupedStages = 4;
inline constexpr int kGroupedThreads = 256;
inline constexpr int kChunk = 8;  // elements in 16 bytes

/// One operand's part of a stage: stored as global memory has it, [outer][inner] or, when
/// kInnerFirst, [inner][outer]; outer is a row of c for a and a column of c for b.
template <class Elem, bool kInnerFirst>
struct OperandTile {
  static constexpr int kRows = kInnerFirst ? kGroupedInner : kGroupedTile;
  static constexpr int kColumns = kInnerFirst ? kGroupedTile : kGroupedInner;
  static constexpr int kPitch = kColumns + kChunk;
  static constexpr int kElements = kRows * kPitch;
  using Shared = SharedTile<Elem, kPitch>;

  /// Inner indices from k0 on; `outer` and `inner` count what is really there.
  template <bool kVector>
  __device__ static void load(Elem* shared, const Elem* global, std::int64_t stride, int outer,
                              int inner, int k0) {
    constexpr int kChunksPerRow = kColumns / kChunk;
#pragma unroll
    for (int i = 0; i < kRows * kChunksPerRow / kGroupedThreads; ++i) {
      const int chunk = static_cast<int>(threadIdx.x) + i * kGroupedThreads;
      const int row = chunk / kChunksPerRow, column = chunk % kChunksPerRow * kChunk;
      const int rows_left = (kInnerFirst ? inner - k0 : outer) - row;
      const int columns_left = (kInnerFirst ? outer : inner - k0) - column;
      const Elem* source = kInnerFirst ? global + (std::int64_t{k0} + row) * stride + column
                                       : global + row * stride + k0 + column;
      copy_eight<kVector>(shared + row * kPitch + column, source, global,
                          rows_left > 0 ? columns_left : 0);
    }
  }
};

template <class Elem, GroupedForm kForm>
struct GroupedStage {
  using A = OperandTile<Elem, kForm == GroupedForm::tn>;
  using B = OperandTile<Elem, kForm != GroupedForm::nt>;
  static constexpr int kElements = A::kElements + B::kElements;

  template <bool kVector, class Tile>
  __device__ static void load(Elem* stage, const Tile& tile, int k0) {
    A::template load<kVector>(stage, tile.a, tile.a_stride, tile.rows, tile.inner, k0);
    B::template load<kVector>(stage + A::kElements, tile.b, tile.b_stride, tile.columns, tile.inner,
                              k0);
  }

  /// sums (64 x 32 of this warp) += the stage's 32 products each.
  __device__ static void multiply(FragmentC (&sums)[4][4], Elem* stage, int row, int column,
                                  int lane) {
    const typename A::Shared a_tile{stage};
    const typename B::Shared b_tile{stage + A::kElements};
#pragma unroll
    for (int k = 0; k < kGroupedInner; k += 16) {
      FragmentB b[2][2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if constexpr (kForm == GroupedForm::nt) {
          load_b(b[j], b_tile, column + j * 16, k, lane);
        } else {
          load_b_transposed(b[j], b_tile, column + j * 16, k, lane);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const FragmentA a = kForm == GroupedForm::tn
                                ? load_a_transposed(a_tile, row + i * 16, k, lane)
                                : load_a(a_tile, row + i * 16, k, lane);
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply_add<Elem>(sums[i][j], a, b[j / 2][j % 2]);
      }
    }
  }
};

/// Writes a warp's 64 x 32 sums; with kVector two neighbouring columns at once.
template <bool kVector, class Elem, class Out>
__device__ inline void store_sums(const FragmentC (&sums)[4][4], const GroupedTile<Elem, Out>& tile,
                                  int row, int column, int lane, bool add) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = row + i * 16 + half * 8 + lane / 4;
        const int c = column + j * 8 + lane % 4 * 2;
        if (r >= tile.rows || c >= tile.columns) continue;
        Out* target = tile.c + r * tile.c_stride + c;
        const float x = sums[i][j].r[half * 2], y = sums[i][j].r[half * 2 + 1];
        if constexpr (kVector) {
          const auto before = add ? load_floats<2>(target) : Vec<float, 2>{};
          store_floats(target, Vec<float, 2>{{x + before.v[0], y + before.v[1]}});
        } else {
          store_sum(target, x, add);
          if (c + 1 < tile.columns) store_sum(target + 1, y, add);
        }
      }
    }
  }
}

template <class Elem, class Out, GroupedForm kForm, bool kVector>
__global__ void __launch_bounds__(kGroupedThreads, kVector ? 2 : 1)
    grouped_mma_kernel(const GroupedCall call) {
  using Stage = GroupedStage<Elem, kForm>;
  extern __shared__ __align__(16) unsigned char shared[];
  auto* ring = reinterpret_cast<Elem*>(shared);
  const GroupedTiles<Elem, Out, kForm, kGroupedTile> tiles{
      reinterpret_cast<int*>(ring + kGroupedStages * Stage::kElements), call};
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int row = warp / 4 * 64, column = warp % 4 * 32;
  for (std::int64_t index = blockIdx.x; index < tiles.count(); index += gridDim.x) {
    const auto tile = tiles[index];
    const int steps = (tile.inner + kGroupedInner - 1) / kGroupedInner;
    const auto load = [&](int step) {
      if (step < steps) {
        Stage::template load<kVector>(ring + step % kGroupedStages * Stage::kElements, tile,
                                      step * kGroupedInner);
      }
      commit_copies();
    };
    FragmentC sums[4][4] = {};
#pragma unroll
    for (int step = 0; step < kGroupedStages - 1; ++step) load(step);
    for (int step = 0; step < steps; ++step) {
      wait_copies<kGroupedStages - 2>();
      __syncthreads();  // the stage is there, and the one before it is free
      load(step + kGroupedStages - 1);
      Stage::multiply(sums, ring + step % kGroupedStages * Stage::kElements, row, column, lane);
    }
    store_sums<kVector>(sums, tile, row, column, lane, call.add);
    wait_copies<0>();
    __syncthreads();  // all stages are free for the next tile
  }
}

template <class Elem, class Out, GroupedForm kForm, bool kVector>
void launch_grouped_mma(const Exec& exec, const GroupedCall& call, std::int64_t rows) {
  const auto kernel = &grouped_mma_kernel<Elem, Out, kForm, kVector>;
  const auto bytes =
      static_cast<int>(kGroupedStages * GroupedStage<Elem, kForm>::kElements * sizeof(Elem) +
                       static_cast<std::size_t>(call.experts) * sizeof(int));
  shoal::cuda::check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const unsigned blocks = blocks_of(call, {.rows = rows,
                                           .form = kForm,
                                           .tile = kGroupedTile,
                                           .blocks_at_once = 2 * exec.cuda().multiprocessors});
  kernel<<<blocks, kGroupedThreads, static_cast<std::size_t>(bytes), exec.cuda().stream>>>(call);
  check_launch();
}

/// Chooses the instance: element types, and whether rows allow 16-byte accesses.
template <GroupedForm kForm>
void grouped_mma(const Exec& exec, const GroupedCall& call, const GroupedGemm& args) {
  const bool vectors =
      call.n % kChunk == 0 && call.k % kChunk == 0 && aligned_for_vectors(call.a, call.b, call.c);
  const auto launch = [&](auto elem, auto out) {
    using Elem = decltype(elem);
    using Out = decltype(out);
    vectors ? launch_grouped_mma<Elem, Out, kForm, true>(exec, call, args.a.dim(0))
            : launch_grouped_mma<Elem, Out, kForm, false>(exec, call, args.a.dim(0));
  };
  const auto launch_to = [&](auto elem) {
    if constexpr (kForm == GroupedForm::tn) {
      launch(elem, float{});
    } else {
      args.c.dtype() == DType::f32 ? launch(elem, float{}) : launch(elem, elem);
    }
  };
  args.a.dtype() == DType::bf16 ? launch_to(__nv_bfloat16{}) : launch_to(__half{});
}

}  // namespace shoal::ops::cuda
