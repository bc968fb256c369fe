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

/// Element type, form of the product, columns and stages: all that the shape of the kernel hangs
/// on. kCluster blocks share the columns that they multiply by.
template <class ElemType, GroupedForm kFormValue, int kColumnsValue, int kClusterValue>
struct Plan {
  using Elem = ElemType;
  static constexpr GroupedForm kForm = kFormValue;
  static constexpr int kColumns = kColumnsValue;
  static constexpr int kCluster = kClusterValue;
  static constexpr int kStages = kColumns == 256 ? 4 : 6;
  static constexpr bool kAInnerFirst = kForm == GroupedForm::tn;
  static constexpr bool kBInnerFirst = kForm != GroupedForm::nt;
  using A = Operand<kTileRows, kAInnerFirst>;
  using B = Operand<kColumns, kBInnerFirst>;
  using Tiles = TileList<kForm, kColumns, kCluster>;
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
      // A lane of each consumer warp of each block that the stage's copies reach.
      empty[i].init(P::kCluster * kConsumers * kWarpgroup / kWarpSize);
    }
    fence_barrier_init();
  }
};

template <class P, int kColumnRanges>
__device__ void produce(Shared<P>& shared, typename P::Tiles& tiles, const GroupedCall& call,
                        const CUtensorMap& a, const CUtensorMap& b) {
  typename P::Position at;
  for (int index = tiles.first(); index < tiles.count(); index += tiles.stride()) {
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
      P::A::template load<1>(stage, a, 0, tile.inner_begin + inner, a_row, full);
      P::B::template load<P::kCluster>(stage + P::A::kBytes, b, b_matrix, tile.inner_begin + inner,
                                       b_column, full);
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

/// The calling warp has read a stage: tells every block that copies into it.
template <class P>
__device__ void release(Barrier& empty) {
  if (threadIdx.x % kWarpSize != 0) return;
  if constexpr (P::kCluster == 1) {
    empty.arrive();
  } else {
    for (unsigned rank = 0; rank < P::kCluster; ++rank) empty.arrive_at(rank);
  }
}

template <class P, class Epilogue>
__device__ void consume(Shared<P>& shared, typename P::Tiles& tiles, const Epilogue& epilogue) {
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  const SumPlace place{warpgroup, static_cast<int>(threadIdx.x) % kWarpgroup};
  typename P::Position at;
  for (int index = tiles.first(); index < tiles.count(); index += tiles.stride()) {
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
      if (reading >= 0) release<P>(shared.empty[reading]);
      reading = at.stage;
      at.advance();
    }
    wait_products<0>();
    if (reading >= 0) release<P>(shared.empty[reading]);
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
  if constexpr (P::kCluster > 1) synchronize_cluster();  // barriers of both are ready
  if (threadIdx.x < kWarpgroup) {
    shrink_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<P, Epilogue::kColumnRanges>(shared, tiles, call, a, b);
  } else {
    grow_registers<kConsumerRegisters>();
    consume<P>(shared, tiles, epilogue);
  }
  if constexpr (P::kCluster > 1) synchronize_cluster();  // neither leaves while the other signals
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
  constexpr std::int64_t kStepRows = kTileRows * P::kCluster;
  const std::int64_t columns = P::kForm == GroupedForm::nt ? call.n : call.k;
  const std::int64_t steps = P::kForm == GroupedForm::tn
                                 ? call.experts * ceil_div(call.n, kStepRows)
                                 : ceil_div(rows, kStepRows) + call.experts;
  const auto kernel = &grouped_kernel<P, Epilogue>;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {.x = P::kCluster, .y = 1, .z = 1};
  cudaLaunchConfig_t config{};
  config.gridDim = P::kCluster;
  config.blockDim = kThreads;
  config.dynamicSmemBytes = Shared<P>::bytes(call.experts);
  config.stream = exec.cuda().stream;
  config.attrs = &cluster;
  config.numAttrs = P::kCluster > 1 ? 1 : 0;
  shoal::cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(config.dynamicSmemBytes)));
  int at_once = exec.cuda().multiprocessors;
  if constexpr (P::kCluster > 1) {  // not every pair of multiprocessors can hold a cluster
    shoal::cuda::check(cudaOccupancyMaxActiveClusters(&at_once, kernel, &config));
  }
  config.gridDim = P::kCluster * blocks_for(steps * ceil_div(columns, P::kColumns), 1, at_once);
  shoal::cuda::check(cudaLaunchKernelEx(&config, kernel, call, map_of_a<P>(call, rows, dtype),
                                        map_of_b<P>(call, rows, dtype), epilogue));
}

}  // namespace shoal::ops::cuda::hopper
