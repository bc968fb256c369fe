#include "ops/cuda_common.cuh"
#include "ops/permute_detail.hpp"

// A stable counting sort of the slots by expert. Each block owns one chunk of consecutive slots:
// histograms of the chunks, for each expert a prefix sum over chunks, then ranks inside the chunk.
// Every rank counts the earlier slots of the same expert, so the order needs no luck.
namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kChunk = static_cast<int>(kPlanChunk);
constexpr int kWarpSlots = kChunk / kWarps;  // each warp ranks consecutive slots of its chunk
static_assert(kWarpSlots % kWarpSize == 0);

struct Plan {
  std::int32_t* count_E;
  std::int32_t* offset_E1;
  std::int32_t* row_of_slot;
  std::int32_t* slot_of_row;
  std::int32_t* before_CE;  ///< histograms, then how many slots of e lie in earlier chunks
  const std::int32_t* index;
  std::int64_t slots, rows, chunks;
  int E;
  std::int32_t capacity;
};

__global__ void __launch_bounds__(kThreads) histogram_kernel(Plan p) {
  extern __shared__ std::int32_t histogram_E[];
  for (int e = threadIdx.x; e < p.E; e += kThreads) histogram_E[e] = 0;
  __syncthreads();
  const std::int64_t begin = std::int64_t{blockIdx.x} * kChunk;
  for (int i = threadIdx.x; i < kChunk && begin + i < p.slots; i += kThreads) {
    const int e = p.index[begin + i];
    if (e >= 0) atomicAdd(&histogram_E[e], 1);  // integers: any order gives the same sum
  }
  __syncthreads();
  for (int e = threadIdx.x; e < p.E; e += kThreads) {
    p.before_CE[std::int64_t{blockIdx.x} * p.E + e] = histogram_E[e];
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

/// One warp per expert: exclusive prefix sum over the chunks, and the rows it keeps.
__global__ void __launch_bounds__(kThreads) prefix_kernel(Plan p) {
  const std::int64_t e = thread_index() / kWarpSize;
  if (e >= p.E) return;  // the same for the whole warp
  const int lane = threadIdx.x % kWarpSize;
  std::int32_t total = 0;
  for (std::int64_t first = 0; first < p.chunks; first += kWarpSize) {
    const std::int64_t c = first + lane;
    const std::int32_t count = c < p.chunks ? p.before_CE[c * p.E + e] : 0;
    const std::int32_t scanned = inclusive_warp_scan(count);
    if (c < p.chunks) p.before_CE[c * p.E + e] = total + scanned - count;
    total += __shfl_sync(kFullWarp, scanned, kWarpSize - 1);
  }
  if (lane == 0) p.count_E[e] = min(total, p.capacity);
}

/// Exclusive prefix sum of count_E into shared offset_E1, by the first warp of the block.
__device__ void scan_offsets(std::int32_t* offset_E1, const Plan& p) {
  if (threadIdx.x >= kWarpSize) return;
  std::int32_t total = 0;
  for (int first = 0; first < p.E; first += kWarpSize) {
    const int e = first + static_cast<int>(threadIdx.x);
    const std::int32_t scanned = inclusive_warp_scan(e < p.E ? p.count_E[e] : 0);
    if (e < p.E) offset_E1[e + 1] = total + scanned;
    total += __shfl_sync(kFullWarp, scanned, kWarpSize - 1);
  }
  if (threadIdx.x == 0) offset_E1[0] = 0;
}

/// The warp's slot of one round, and which lanes hold the same expert.
struct Peers {
  std::int64_t slot;
  int expert;  ///< -1: none, or beyond the last slot
  unsigned lanes;
  __device__ int earlier() const {  ///< peers on lower lanes
    return __popc(lanes & ((1U << (threadIdx.x % kWarpSize)) - 1U));
  }
};
__device__ Peers find_peers(const Plan& p, int round) {
  const std::int64_t slot = std::int64_t{blockIdx.x} * kChunk +
                            static_cast<int>(threadIdx.x) / kWarpSize * kWarpSlots +
                            round * kWarpSize + static_cast<int>(threadIdx.x) % kWarpSize;
  const int expert = slot < p.slots ? p.index[slot] : -1;
  return {slot, expert, __match_any_sync(kFullWarp, expert)};
}

/// Shared memory: offsets [E+1], then for each warp of the block a counter per expert [warps, E].
__global__ void __launch_bounds__(kThreads) place_kernel(Plan p) {
  extern __shared__ std::int32_t offset_E1[];
  std::int32_t* rank_WE = offset_E1 + p.E + 1;
  std::int32_t* rank_E = rank_WE + static_cast<int>(threadIdx.x) / kWarpSize * p.E;
  for (int i = threadIdx.x; i < kWarps * p.E; i += kThreads) rank_WE[i] = 0;
  scan_offsets(offset_E1, p);
  __syncthreads();
  for (int round = 0; round < kWarpSlots / kWarpSize; ++round) {
    const Peers peers = find_peers(p, round);
    if (peers.expert >= 0 && peers.earlier() == 0) rank_E[peers.expert] += __popc(peers.lanes);
    __syncwarp();
  }
  __syncthreads();
  for (int e = threadIdx.x; e < p.E && p.chunks > 0; e += kThreads) {
    std::int32_t before = p.before_CE[std::int64_t{blockIdx.x} * p.E + e];
    for (int warp = 0; warp < kWarps; ++warp) {
      const std::int32_t count = rank_WE[warp * p.E + e];
      rank_WE[warp * p.E + e] = before;
      before += count;
    }
  }
  __syncthreads();
  for (int round = 0; round < kWarpSlots / kWarpSize; ++round) {
    const Peers peers = find_peers(p, round);
    const std::int32_t rank = peers.expert >= 0 ? rank_E[peers.expert] + peers.earlier() : 0;
    __syncwarp();  // all have read the counters
    if (peers.expert >= 0) {
      const bool kept = rank < p.capacity;
      const std::int32_t row = kept ? offset_E1[peers.expert] + rank : -1;
      p.row_of_slot[peers.slot] = row;
      if (kept) p.slot_of_row[row] = static_cast<std::int32_t>(peers.slot);
      if (peers.earlier() == 0) rank_E[peers.expert] += __popc(peers.lanes);
    } else if (peers.slot < p.slots) {
      p.row_of_slot[peers.slot] = -1;
    }
    __syncwarp();
  }
  for (std::int64_t r = offset_E1[p.E] + thread_index(); r < p.rows; r += thread_count()) {
    p.slot_of_row[r] = -1;
  }
  if (blockIdx.x != 0) return;
  for (int e = threadIdx.x; e <= p.E; e += kThreads) p.offset_E1[e] = offset_E1[e];
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
      .before_CE = device_data<std::int32_t>(histograms),
      .index = device_data<std::int32_t>(a.index_TK),
      .slots = slots,
      .rows = a.slot_of_row_R.dim(0),
      .chunks = histograms.dim(0),
      .E = static_cast<int>(E),
      .capacity = static_cast<std::int32_t>(a.capacity == 0 ? slots : std::min(a.capacity, slots))};
  const auto stream = exec.cuda().stream;
  if (plan.chunks > 0) {
    histogram_kernel<<<blocks_for(slots, kChunk), kThreads, sizeof(std::int32_t) * E, stream>>>(
        plan);
    check_launch();
  }
  prefix_kernel<<<blocks_for(E, kWarps), kThreads, 0, stream>>>(plan);
  check_launch();
  const auto shared = sizeof(std::int32_t) * static_cast<std::size_t>(E + 1 + kWarps * E);
  place_kernel<<<blocks_for(slots, kChunk), kThreads, shared, stream>>>(plan);
  check_launch();
}

}  // namespace shoal::ops::cuda
