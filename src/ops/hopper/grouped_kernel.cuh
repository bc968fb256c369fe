#pragma once
// Grouped matrix product for bf16 and f16 on Hopper's warpgroup products. One persistent block of
// three warpgroups on each multiprocessor steps through tiles of c, 128 rows by kColumns columns:
//
//   warpgroup 0, one thread: the producer. Walks the inner dimension of tile after tile in steps of
//     64 and has the copy engine fill a ring of stages, as far ahead as the ring is long.
//   warpgroups 1 and 2: the consumers. Each multiplies 64 rows of a by all columns of b, stage by
//     stage, into sums in registers, frees the stage, and at the end of a tile runs the epilogue.
//
// The producer does not stop between tiles: the next one's stages fill during the epilogue. A tile
// is summed by one block in a fixed order: deterministic. Where the expert's rows are the inner
// dimension (tn), the last stage of a tile also holds rows of the next expert: they are zeroed.
#include "ops/hopper/epilogue.cuh"
#include "ops/hopper/operand.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kConsumers = 2;  // warpgroups
inline constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
// 65,536 registers: 168 each at the start, then these.
inline constexpr int kProducerRegisters = 40;
inline constexpr int kConsumerRegisters = 232;

/// Element type, form of the product and columns of a tile: all that the kernel's shape hangs on.
template <class ElemType, GroupedForm kFormValue, int kColumnsValue>
struct Plan {
  using Elem = ElemType;
  static constexpr GroupedForm kForm = kFormValue;
  static constexpr int kColumns = kColumnsValue;
  static constexpr int kStages = kColumns == 256 ? 4 : 6;
  static constexpr bool kAInnerFirst = kForm == GroupedForm::tn;
  static constexpr bool kBInnerFirst = kForm != GroupedForm::nt;
  using A = Operand<kTileRows, kAInnerFirst>;
  using B = Operand<kColumns, kBInnerFirst>;
  using Tiles = TileList<kForm, kColumns>;
  using Position = RingPosition<kStages>;
  static constexpr unsigned kStageBytes = A::kBytes + B::kBytes;
};

/// The block's shared memory, then an int for each expert. Stages are aligned to the swizzle.
template <class P>
struct Shared {
  unsigned char stages[P::kStages][P::kStageBytes];
  Barrier full[P::kStages], empty[P::kStages];

  [[nodiscard]] static std::size_t bytes(int experts) {
    return kSwizzleBytes + sizeof(Shared) + static_cast<std::size_t>(experts) * sizeof(int);
  }
  [[nodiscard]] __device__ static Shared& at(unsigned char* raw) {
    const unsigned gap = (kSwizzleBytes - shared_address(raw) % kSwizzleBytes) % kSwizzleBytes;
    return *reinterpret_cast<Shared*>(raw + gap);
  }
  [[nodiscard]] __device__ int* tile_end() { return reinterpret_cast<int*>(this + 1); }
  __device__ void init_barriers() {
    for (int i = 0; i < P::kStages; ++i) {
      full[i].init(1);
      empty[i].init(kConsumers * kWarpgroup / kWarpSize);  // a lane of each consumer warp
    }
    fence_barrier_init();
  }
};

/// Blocks take the tiles of the list in turn.
__device__ inline int first_tile() {
  return static_cast<int>(blockIdx.x);
}
__device__ inline int tile_stride() {
  return static_cast<int>(gridDim.x);
}

template <class P, int kColumnRanges>
__device__ void produce(Shared<P>& shared, typename P::Tiles& tiles, const GroupedCall& call,
                        const CUtensorMap& a, const CUtensorMap& b) {
  typename P::Position at;
  for (int index = first_tile(); index < tiles.count(); index += tile_stride()) {
    const Tile tile = tiles.take(index);
    const auto a_row = [&](int box) { return tile.row + box * P::A::kBoxOuter; };
    const auto b_column = [&](int box) {
      if constexpr (kColumnRanges == 2) {
        static_assert(P::B::kBoxes == 2);
        return tile.column / 2 + box * static_cast<int>(call.n / 2);
      } else {
        return tile.column + box * P::B::kBoxOuter;
      }
    };
    const int b_matrix = P::kForm == GroupedForm::tn ? 0 : tile.expert;
    for (int inner = 0; inner < tile.inner; inner += kStageInner) {
      Barrier& full = shared.full[at.stage];
      const unsigned stage = shared_address(shared.stages[at.stage]);
      shared.empty[at.stage].wait(at.parity ^ 1U);
      full.arrive_expecting(P::kStageBytes);
      P::A::load(stage, a, 0, tile.inner_begin + inner, a_row, full);
      P::B::load(stage + P::A::kBytes, b, b_matrix, tile.inner_begin + inner, b_column, full);
      at.advance();
    }
  }
}

/// Zeros what a consumer reads of a stage's inner indices from `inner` on. Both consumers write the
/// same zeros to b, so that neither waits for the other.
template <class P>
__device__ void clear_stage_from(unsigned char* stage, int inner, int warpgroup) {
  constexpr int kOwnBoxes = P::A::kBoxes / kConsumers;
  P::A::clear_inner_from(stage, inner, warpgroup * kOwnBoxes, kOwnBoxes);
  P::B::clear_inner_from(stage + P::A::kBytes, inner, 0, P::B::kBoxes);
  fence_async_proxy();
  asm volatile("bar.sync %0, %1;" ::"r"(1 + warpgroup), "n"(kWarpgroup) : "memory");
}

/// sums += the products of one stage, 64 rows of a from `row` on; asynchronous.
template <class P, int kSums>
__device__ void multiply_stage(float (&sums)[kSums], unsigned stage, int row) {
  begin_products();
#pragma unroll
  for (int inner = 0; inner < kStageInner; inner += kProductInner) {
    multiply_add<typename P::Elem, P::kAInnerFirst, P::kBInnerFirst>(
        sums, P::A::descriptor(stage, row, inner),
        P::B::descriptor(stage + P::A::kBytes, 0, inner));
  }
  commit_products();
}

/// The calling warp has read a stage.
__device__ inline void release(Barrier& empty) {
  if (threadIdx.x % kWarpSize == 0) empty.arrive();
}

template <class P, class Epilogue>
__device__ void consume(Shared<P>& shared, typename P::Tiles& tiles, const Epilogue& epilogue) {
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  const SumPlace place{warpgroup, static_cast<int>(threadIdx.x) % kWarpgroup};
  typename P::Position at;
  for (int index = first_tile(); index < tiles.count(); index += tile_stride()) {
    const Tile tile = tiles.take(index);
    float sums[P::kColumns / 2] = {};
    epilogue.prepare(tile);
    int reading = -1;  // stage that products under way still read
    for (int inner = 0; inner < tile.inner; inner += kStageInner) {
      shared.full[at.stage].wait(at.parity);
      if constexpr (P::kAInnerFirst) {
        const int left = tile.inner - inner;
        if (left < kStageInner) clear_stage_from<P>(shared.stages[at.stage], left, warpgroup);
      }
      multiply_stage<P>(sums, shared_address(shared.stages[at.stage]), warpgroup * 64);
      wait_products<1>();
      if (reading >= 0) release(shared.empty[reading]);
      reading = at.stage;
      at.advance();
    }
    wait_products<0>();
    if (reading >= 0) release(shared.empty[reading]);
    epilogue(sums, tile, place);
  }
}

template <class P, class Epilogue>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_kernel(const GroupedCall call, const __grid_constant__ CUtensorMap a,
                   const __grid_constant__ CUtensorMap b, const Epilogue epilogue) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  auto& shared = Shared<P>::at(raw);
  if (threadIdx.x == 0) {
    prefetch_map(a);
    prefetch_map(b);
    shared.init_barriers();
  }
  const auto columns = static_cast<int>(P::kForm == GroupedForm::nt ? call.n : call.k);
  typename P::Tiles tiles{shared.tile_end(), call, columns};
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    shrink_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<P, Epilogue::kColumnRanges>(shared, tiles, call, a, b);
  } else {
    grow_registers<kConsumerRegisters>();
    consume<P>(shared, tiles, epilogue);
  }
#else
  __trap();  // the launcher chooses this kernel on compute capability 9.0 only
#endif
}

template <class P>
CUtensorMap map_of_a(const GroupedCall& call, std::int64_t rows, DType dtype) {
  return make_tensor_map({.data = call.a,
                          .dtype = dtype,
                          .matrices = 1,
                          .rows = rows,
                          .columns = P::kForm == GroupedForm::nt ? call.k : call.n,
                          .box_rows = P::A::kBoxRows});
}
template <class P>
CUtensorMap map_of_b(const GroupedCall& call, std::int64_t rows, DType dtype) {
  constexpr bool kRows = P::kForm == GroupedForm::tn;
  return make_tensor_map({.data = call.b,
                          .dtype = dtype,
                          .matrices = kRows ? 1 : call.experts,
                          .rows = kRows ? rows : call.n,
                          .columns = call.k,
                          .box_rows = P::B::kBoxRows});
}

/// Launches on `rows` rows of R; one block a multiprocessor, or fewer for few tiles.
template <class P, class Epilogue>
void launch(const Exec& exec, const GroupedCall& call, std::int64_t rows,
            const Epilogue& epilogue) {
  const DType dtype = std::is_same_v<typename P::Elem, __half> ? DType::f16 : DType::bf16;
  const std::int64_t columns = P::kForm == GroupedForm::nt ? call.n : call.k;
  const std::int64_t row_tiles = P::kForm == GroupedForm::tn
                                     ? call.experts * ceil_div(call.n, kTileRows)
                                     : ceil_div(rows, kTileRows) + call.experts;
  const unsigned blocks =
      blocks_for(row_tiles * ceil_div(columns, P::kColumns), 1, exec.cuda().multiprocessors);
  const std::size_t bytes = Shared<P>::bytes(call.experts);
  const auto kernel = &grouped_kernel<P, Epilogue>;
  shoal::cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(bytes)));
  kernel<<<blocks, kThreads, bytes, exec.cuda().stream>>>(call, map_of_a<P>(call, rows, dtype),
                                                          map_of_b<P>(call, rows, dtype), epilogue);
  check_launch();
}

}  // namespace shoal::ops::cuda::hopper
