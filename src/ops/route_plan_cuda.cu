#include "ops/cuda_common.cuh"
#include "ops/permute_detail.hpp"

// A stable counting sort of the slots by expert in two kernels. Each block owns one chunk of
// consecutive slots: first a histogram of the chunk; then, from the histograms of all chunks, how
// many slots of each expert lie in earlier chunks, and ranks inside the chunk. Every rank counts
// the earlier slots of the same expert, so the order needs no luck.
namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kRound = static_cast<int>(kPlanRound);
constexpr int kWarpSlots = kRound / kWarps;  // each warp ranks consecutive slots of a round
static_assert(kWarpSlots % kWarpSize == 0);
constexpr int kSteps = kWarpSlots / kWarpSize;

struct Plan {
  std::int32_t* count_E;
  std::int32_t* offset_E1;
  std::int32_t* row_of_slot;
  std::int32_t* slot_of_row;
  std::int32_t* histogram_CE;
  const std::int32_t* index;
  std::int64_t slots, rows, chunks, chunk;  ///< chunk: slots of one
  int E;
  std::int32_t capacity;
};

__global__ void __launch_bounds__(kThreads) histogram_kernel(Plan p) {
  extern __shared__ std::int32_t histogram_E[];
  for (int e = threadIdx.x; e < p.E; e += kThreads) histogram_E[e] = 0;
  __syncthreads();
  const std::int64_t begin = blockIdx.x * p.chunk, end = min(begin + p.chunk, p.slots);
  for (std::int64_t slot = begin + threadIdx.x; slot < end; slot += kThreads) {
    const int e = p.index[slot];
    if (e >= 0) atomicAdd(&histogram_E[e], 1);  // integers: any order gives the same sum
  }
  __syncthreads();
  for (int e = threadIdx.x; e < p.E; e += kThreads) {
    p.histogram_CE[std::int64_t{blockIdx.x} * p.E + e] = histogram_E[e];
  }
}

__device__ std::int32_t inclusive_warp_scan(std::int32_t x) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int offset = 1; offset < kWarpSize; offset *= 2) {
    const std::int32_t below = __shfl_up_sync(kFullWarp, x, offset);
    if (lane >= offset) x += below;
  }
  return x;
}

/// A block's shared memory: offsets; for each expert its slots, and those of them that come before
/// the round; for each warp of the block a counter per expert.
struct Shared {
  std::int32_t* offset_E1;
  std::int32_t* total_E;
  std::int32_t* before_E;
  std::int32_t* rank_WE;

  [[nodiscard]] static std::size_t bytes(int E) {
    return sizeof(std::int32_t) * static_cast<std::size_t>(E + 1 + (2 + kWarps) * E);
  }
  __device__ Shared(std::int32_t* raw, int E)
      : offset_E1{raw}, total_E{raw + E + 1}, before_E{total_E + E}, rank_WE{before_E + E} {}
  /// The calling warp's counters.
  [[nodiscard]] __device__ std::int32_t* rank_E(int E) const {
    return rank_WE + static_cast<int>(threadIdx.x) / kWarpSize * E;
  }
};

/// Adds up the histograms, of all chunks and of those before this block's; neighbouring threads
/// take neighbouring experts.
__device__ void add_histograms(const Shared& shared, const Plan& p) {
  const int width = min((p.E + kWarpSize - 1) / kWarpSize * kWarpSize, kThreads);
  const int teams = kThreads / width, team = static_cast<int>(threadIdx.x) / width;
  if (team >= teams) return;
  for (int e = static_cast<int>(threadIdx.x) % width; e < p.E; e += width) {
    std::int32_t total = 0, before = 0;
#pragma unroll 8
    for (std::int64_t c = team; c < p.chunks; c += teams) {
      const std::int32_t count = p.histogram_CE[c * p.E + e];
      total += count;
      before += c < blockIdx.x ? count : 0;
    }
    atomicAdd(&shared.total_E[e], total);  // integers: any order gives the same sum
    atomicAdd(&shared.before_E[e], before);
  }
}

/// Exclusive prefix sum of the rows that experts keep, by the first warp of the block.
__device__ void scan_offsets(const Shared& shared, const Plan& p) {
  if (threadIdx.x >= kWarpSize) return;
  std::int32_t total = 0;
  for (int first = 0; first < p.E; first += kWarpSize) {
    const int e = first + static_cast<int>(threadIdx.x);
    const std::int32_t kept = e < p.E ? min(shared.total_E[e], p.capacity) : 0;
    const std::int32_t scanned = inclusive_warp_scan(kept);
    if (e < p.E) shared.offset_E1[e + 1] = total + scanned;
    total += __shfl_sync(kFullWarp, scanned, kWarpSize - 1);
  }
  if (threadIdx.x == 0) shared.offset_E1[0] = 0;
}

/// The slots of this thread in one round, a warp's being neighbours in each step, and which lanes
/// hold the same expert.
struct OwnSlots {
  std::int64_t first;  ///< of the first step
  int expert[kSteps];  ///< -1: none, or beyond the last slot
  unsigned peers[kSteps];

  __device__ void load(const Plan& p, std::int64_t round) {
    first = round + static_cast<int>(threadIdx.x) / kWarpSize * kWarpSlots +
            static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      expert[step] = slot(step) < p.slots ? p.index[slot(step)] : -1;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      peers[step] = __match_any_sync(kFullWarp, expert[step]);
    }
  }
  [[nodiscard]] __device__ std::int64_t slot(int step) const {
    return first + step * kWarpSize;
  }
  /// Peers on lower lanes.
  [[nodiscard]] __device__ int earlier(int step) const {
    return __popc(peers[step] & ((1U << (threadIdx.x % kWarpSize)) - 1U));
  }
};

/// Counts the round's slots for each warp, then turns the counts into the warps' first ranks.
__device__ void rank_warps(const Shared& shared, const Plan& p, const OwnSlots& own) {
  std::int32_t* rank_E = shared.rank_E(p.E);
  for (int i = threadIdx.x; i < kWarps * p.E; i += kThreads) shared.rank_WE[i] = 0;
  __syncthreads();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int expert = own.expert[step];
    if (expert >= 0 && own.earlier(step) == 0) rank_E[expert] += __popc(own.peers[step]);
    __syncwarp();
  }
  __syncthreads();
  for (int e = threadIdx.x; e < p.E; e += kThreads) {
    std::int32_t before = shared.before_E[e];
    for (int warp = 0; warp < kWarps; ++warp) {
      const std::int32_t count = shared.rank_WE[warp * p.E + e];
      shared.rank_WE[warp * p.E + e] = before;
      before += count;
    }
    shared.before_E[e] = before;
  }
  __syncthreads();
}

/// Gives the round's slots their rows.
__device__ void place_round(const Shared& shared, const Plan& p, const OwnSlots& own) {
  std::int32_t* rank_E = shared.rank_E(p.E);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int expert = own.expert[step];
    const std::int64_t slot = own.slot(step);
    const std::int32_t rank = expert >= 0 ? rank_E[expert] + own.earlier(step) : 0;
    __syncwarp();  // all have read the counters
    if (expert >= 0) {
      const bool kept = rank < p.capacity;
      const std::int32_t row = kept ? shared.offset_E1[expert] + rank : -1;
      p.row_of_slot[slot] = row;
      if (kept) p.slot_of_row[row] = static_cast<std::int32_t>(slot);
      if (own.earlier(step) == 0) rank_E[expert] += __popc(own.peers[step]);
    } else if (slot < p.slots) {
      p.row_of_slot[slot] = -1;
    }
    __syncwarp();
  }
}

__global__ void __launch_bounds__(kThreads) place_kernel(Plan p) {
  extern __shared__ std::int32_t raw[];
  const Shared shared{raw, p.E};
  const std::int64_t begin = blockIdx.x * p.chunk, end = min(begin + p.chunk, p.slots);
  OwnSlots own;
  own.load(p, begin);
  for (int e = threadIdx.x; e < p.E; e += kThreads) shared.total_E[e] = shared.before_E[e] = 0;
  __syncthreads();
  add_histograms(shared, p);
  __syncthreads();
  scan_offsets(shared, p);
  for (std::int64_t round = begin; round < end; round += kRound) {
    if (round > begin) own.load(p, round);
    rank_warps(shared, p, own);
    place_round(shared, p, own);
    __syncthreads();
  }
  __syncthreads();
  for (std::int64_t r = shared.offset_E1[p.E] + thread_index(); r < p.rows; r += thread_count()) {
    p.slot_of_row[r] = -1;
  }
  if (blockIdx.x != 0) return;
  for (int e = threadIdx.x; e <= p.E; e += kThreads) {
    p.offset_E1[e] = shared.offset_E1[e];
    if (e < p.E) p.count_E[e] = min(shared.total_E[e], p.capacity);
  }
}

}  // namespace

void route_plan(const Exec& exec, const RoutePlan& a) {
  const ScratchScope scope{exec};
  const TensorView histograms = route_plan_histograms(exec, a);
  const std::int64_t slots = a.index_TK.elements(), E = a.count_E.dim(0);
  const Plan plan{
      .count_E = device_data<std::int32_t>(a.count_E),
      .offset_E1 = device_data<std::int32_t>(a.offset_E1),
      .row_of_slot = device_data<std::int32_t>(a.row_of_slot_TK),
      .slot_of_row = device_data<std::int32_t>(a.slot_of_row_R),
      .histogram_CE = device_data<std::int32_t>(histograms),
      .index = device_data<std::int32_t>(a.index_TK),
      .slots = slots,
      .rows = a.slot_of_row_R.dim(0),
      .chunks = histograms.dim(0),
      .chunk = plan_chunk(slots),
      .E = static_cast<int>(E),
      .capacity = static_cast<std::int32_t>(a.capacity == 0 ? slots : std::min(a.capacity, slots))};
  const auto stream = exec.cuda().stream;
  const unsigned blocks = blocks_for(slots, plan.chunk);
  if (plan.chunks > 0) {
    histogram_kernel<<<blocks, kThreads, sizeof(std::int32_t) * E, stream>>>(plan);
    check_launch();
  }
  place_kernel<<<blocks, kThreads, Shared::bytes(plan.E), stream>>>(plan);
  check_launch();
}

}  // namespace shoal::ops::cuda
