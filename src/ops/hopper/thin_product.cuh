#pragma once
// c = a x for an fp32 matrix a of few rows and a bf16 matrix x, in fp32: logits = w x^T and
// dw = dlogits^T x of a router. A block computes 64 rows by 128 columns of c, or a part of the
// inner dimension of them:
//
//   warpgroups 0 and 1: the consumers. They take the stages of 64 inner indices in turn,
//     split the elements of a into three bf16 terms in registers and multiply all terms by x. The
//     tensor cores do not round sums to nearest, so each stage's sums begin at zero and are then
//     added to the total in fp32; meanwhile the other warpgroup multiplies.
//   warpgroup 2, one thread: the producer. The copy engine fills a ring of stages.
//
// At the end the second warpgroup's total is added to the first's: a fixed order, deterministic.
#include "ops/hopper/bf16_terms.cuh"
#include "ops/hopper/operand.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kThinRows = 64, kThinColumns = 128;
inline constexpr int kThinConsumers = 2;  // warpgroups
inline constexpr int kThinThreads = (kThinConsumers + 1) * kWarpgroup;
// 65,536 registers: 168 each at the start, then these.
inline constexpr int kThinProducerRegisters = 40;
inline constexpr int kThinConsumerRegisters = 232;
inline constexpr int kThinStages = 6;
inline constexpr int kThinTerms = 3;

/// kInnerFirst: memory holds a and x as [inner][outer], otherwise as [outer][inner].
template <bool kInnerFirst>
struct ThinStage {
  using X = Operand<kThinColumns, kInnerFirst>;
  static constexpr int kBoxFloats = kBoxRowBytes / 4;
  static constexpr int kBoxLines = 64;
  static constexpr unsigned kBoxBytes = kBoxLines * kBoxRowBytes;
  static_assert(kThinRows == kBoxLines && kStageInner == kBoxLines);

  unsigned char a[2][kBoxBytes];  // boxes of 64 lines of 32 floats, side by side
  unsigned char x[X::kBytes];
  static constexpr unsigned kBytes = 2 * kBoxBytes + X::kBytes;

  __device__ void load(const CUtensorMap& map_a, const CUtensorMap& map_x, int row, int column,
                       int inner, const Barrier& full) {
    load_a(map_a, row, inner, full);
    X::load(
        shared_address(x), map_x, 0, inner, [&](int box) { return column + box * X::kBoxOuter; },
        full);
  }
  /// Elements (row, inner) and (row, inner + 1) of a; inner is even.
  [[nodiscard]] __device__ Vec<float, 2> pair(int row, int inner) const {
    if constexpr (kInnerFirst) return {{*at(inner, row), *at(inner + 1, row)}};
    return load_vec<2>(at(row, inner));
  }

 private:
  __device__ void load_a(const CUtensorMap& map, int row, int inner, const Barrier& full) {
#pragma unroll
    for (int box = 0; box < 2; ++box) {
      const int step = box * kBoxFloats;
      copy_box(shared_address(a[box]), map,
               kInnerFirst ? BoxOrigin{.matrix = 0, .row = inner, .column = row + step}
                           : BoxOrigin{.matrix = 0, .row = row, .column = inner + step},
               full);
    }
  }
  [[nodiscard]] __device__ const float* at(int line, int column) const {
    const int unit = column % kBoxFloats / 4 ^ line % 8;  // as the copy engine exchanges them
    return reinterpret_cast<const float*>(a[column / kBoxFloats] + line * kBoxRowBytes +
                                          unit * 16) +
           column % 4;
  }
};

template <bool kInnerFirst>
struct ThinShared {
  ThinStage<kInnerFirst> stages[kThinStages];
  Barrier full[kThinStages], empty[kThinStages];

  [[nodiscard]] static constexpr std::size_t bytes() { return kSwizzleBytes + sizeof(ThinShared); }
  [[nodiscard]] __device__ static ThinShared& at(unsigned char* raw) {
    const unsigned gap = (kSwizzleBytes - shared_address(raw) % kSwizzleBytes) % kSwizzleBytes;
    return *reinterpret_cast<ThinShared*>(raw + gap);
  }
  __device__ void init_barriers() {
    for (int i = 0; i < kThinStages; ++i) {
      full[i].init(1);
      empty[i].init(kWarpgroup / kWarpSize);  // a lane of each warp of the group that reads it
    }
    fence_barrier_init();
  }
  /// Room for a warpgroup's sums once no stage is read any more.
  [[nodiscard]] __device__ float* exchange() { return reinterpret_cast<float*>(stages); }
};

struct ThinCall {
  float* c;
  int rows, columns;  ///< of c
  int inner;
  int inner_of_block;  ///< a multiple of kStageInner
  bool add;
};

/// Stages of the block: part blockIdx.z of the inner dimension.
struct ThinPart {
  int begin, stages;
  __device__ explicit ThinPart(const ThinCall& call)
      : begin{static_cast<int>(blockIdx.z) * call.inner_of_block},
        stages{(min(call.inner_of_block, call.inner - begin) + kStageInner - 1) / kStageInner} {}
};

/// sums = a x over one stage.
template <bool kInnerFirst>
__device__ void multiply_stage(float (&sums)[64], const ThinStage<kInnerFirst>& stage) {
  using Elem = __nv_bfloat16;
  constexpr int kSteps = kStageInner / kProductInner;
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const int row = thread / kWarpSize * 16 + thread % kWarpSize / 4;
  RowsOperand terms[2][kThinTerms];  // of this step, and of the one whose products are under way
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    auto& a = terms[step % 2];
#pragma unroll
    for (int place = 0; place < 4; ++place) {
      const Vec<float, 2> pair =
          stage.pair(row + place % 2 * 8, step * kProductInner + place / 2 * 8 + thread % 4 * 2);
      split_into(a, place, pair.v[0], pair.v[1]);
    }
    const std::uint64_t x =
        ThinStage<kInnerFirst>::X::descriptor(shared_address(stage.x), 0, step * kProductInner);
    begin_products();
    if (step == 0) {
      multiply_add<Elem, kInnerFirst, false>(sums, a[kThinTerms - 1], x);
    } else {
      multiply_add<Elem, kInnerFirst>(sums, a[kThinTerms - 1], x);
    }
#pragma unroll
    for (int term = kThinTerms - 2; term >= 0; --term) {
      multiply_add<Elem, kInnerFirst>(sums, a[term], x);
    }
    commit_products();
    if (step + 1 < kSteps) {
      wait_products<1>();
    } else {
      wait_products<0>();
    }
  }
}

/// total += a x over the stages that fall to a warpgroup.
template <bool kInnerFirst>
__device__ void consume(float (&total)[64], ThinShared<kInnerFirst>& shared, int stages,
                        int warpgroup) {
  for (int i = warpgroup; i < stages; i += kThinConsumers) {
    const int stage = i % kThinStages;
    shared.full[stage].wait(static_cast<unsigned>(i / kThinStages) & 1U);
    float sums[64] = {};
    multiply_stage(sums, shared.stages[stage]);
    if (threadIdx.x % kWarpSize == 0) shared.empty[stage].arrive();
#pragma unroll
    for (int j = 0; j < 64; ++j) total[j] += sums[j];
  }
}

/// Adds the second warpgroup's totals to the first's.
__device__ inline void join(float (&total)[64], float* exchange, int warpgroup) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const auto wait_for_consumers = [] {
    asm volatile("bar.sync 1, %0;" ::"n"(kThinConsumers * kWarpgroup) : "memory");
  };
  wait_for_consumers();  // no stage is read any more
  if (warpgroup == 1) {
#pragma unroll
    for (int j = 0; j < 64; ++j) exchange[j * kWarpgroup + thread] = total[j];
  }
  wait_for_consumers();
  if (warpgroup == 0) {
#pragma unroll
    for (int j = 0; j < 64; ++j) total[j] += exchange[j * kWarpgroup + thread];
  }
}

/// kInnerFirst: c is [parts, rows, columns], otherwise [columns, rows].
template <bool kInnerFirst>
__device__ void store(const float (&total)[64], const ThinCall& call, int row0, int column0) {
  const int thread = static_cast<int>(threadIdx.x);
  const auto put = [](float* to, float value, bool add) { *to = add ? *to + value : value; };
#pragma unroll
  for (int j = 0; j < 64; ++j) {
    const int row = row0 + thread / kWarpSize * 16 + thread % kWarpSize / 4 + j % 4 / 2 * 8;
    const int column = column0 + j / 4 * 8 + thread % 4 * 2 + j % 2;
    if (row >= call.rows || column >= call.columns) continue;
    const std::int64_t part = blockIdx.z;
    put(call.c + (kInnerFirst ? (part * call.rows + row) * call.columns + column
                              : std::int64_t{column} * call.rows + row),
        total[j], call.add);
  }
}

template <bool kInnerFirst>
__global__ void __launch_bounds__(kThinThreads, 1)
    thin_kernel(const ThinCall call, const __grid_constant__ CUtensorMap a,
                const __grid_constant__ CUtensorMap x) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  auto& shared = ThinShared<kInnerFirst>::at(raw);
  if (threadIdx.x == 0) {
    prefetch_map(a);
    prefetch_map(x);
    shared.init_barriers();
  }
  __syncthreads();
  const ThinPart part{call};
  const int row = static_cast<int>(blockIdx.y) * kThinRows;
  const int column = static_cast<int>(blockIdx.x) * kThinColumns;
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (warpgroup == kThinConsumers) {
    shrink_registers<kThinProducerRegisters>();
    RingPosition<kThinStages> at;
    for (int i = 0; i < part.stages && threadIdx.x % kWarpgroup == 0; ++i) {
      shared.empty[at.stage].wait(at.parity ^ 1U);
      shared.full[at.stage].arrive_expecting(ThinStage<kInnerFirst>::kBytes);
      shared.stages[at.stage].load(a, x, row, column, part.begin + i * kStageInner,
                                   shared.full[at.stage]);
      at.advance();
    }
  } else {
    grow_registers<kThinConsumerRegisters>();
    float total[64] = {};
    consume(total, shared, part.stages, warpgroup);
    join(total, shared.exchange(), warpgroup);
    if (warpgroup == 0) store<kInnerFirst>(total, call, row, column);
  }
#else
  __trap();  // the launcher chooses this kernel on compute capability 9.0 only
#endif
}

}  // namespace shoal::ops::cuda::hopper
