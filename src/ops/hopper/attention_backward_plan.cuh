#pragma once
// Backward attention on Hopper: what the parts of the kernel share. See
// attention_backward_kernel.cuh for the idea.
#include "ops/attention.cuh"
#include "ops/attention_backward_work.hpp"
#include "ops/hopper/sum_rows.cuh"
#include "ops/hopper/tma.cuh"

namespace shoal::ops::cuda::hopper {

/// What one tile of queries of one head needs to know, written before the kernel.
struct QueryTile {
  int active;      // whether any of its tokens uses the head's group
  int first_key;   // the first key that its first query sees
  int last_start;  // the first key that its last query sees
  int unused;
};
static_assert(sizeof(QueryTile) == kQueryTileWords * sizeof(float));

/// The call's scratch, in the order of backward_work_words; pair = head * query tiles + tile.
struct BackwardScratch {
  float* dq;        // [pairs, kDqFloats]: sums of dq / scale, in the order of threads
  float* rows;      // [pairs, 3, kQueries]: lse in base 2, <dout, out>, first key as an int
  QueryTile* tile;  // [pairs]
  float* keys;      // [key tiles, 2, kKeyFloats]: sums of dk / scale and dv, if heads are split
  unsigned* turn;   // [pairs]: tiles of keys that have added to the dq of the pair
  unsigned* part;   // [key tiles]: parts of the heads that have added to dk and dv
  unsigned* ticket;

  template <class P>
  [[nodiscard]] static BackwardScratch at(float* base, std::int64_t pairs, std::int64_t key_tiles) {
    BackwardScratch s{};
    s.dq = base;
    s.rows = s.dq + pairs * P::kDqFloats;
    s.tile = reinterpret_cast<QueryTile*>(s.rows + pairs * P::kRowFloats);
    s.keys = reinterpret_cast<float*>(s.tile + pairs);
    s.turn = reinterpret_cast<unsigned*>(s.keys + key_tiles * 2 * P::kKeyFloats);
    s.part = s.turn + pairs;
    s.ticket = s.part + key_tiles;
    return s;
  }
};

/// Element type and head dimension: all that the kernel's shape hangs on. A tile of queries times
/// the head dimension is always the same number of elements.
template <class ElemType, int kHeadDimValue>
struct BackwardPlan {
  using Elem = ElemType;
  static constexpr int kHeadDim = kHeadDimValue;
  static constexpr int kConsumers = 2;  // warpgroups, 64 keys each
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
  static constexpr int kKeys = kBackwardKeys;
  static constexpr int kQueries = backward_queries(kHeadDim);
  static constexpr int kStages = kHeadDim == 64 ? 2 : 3;  // what shared memory holds
  static constexpr int kKeyFloats = kKeys * kHeadDim;
  static constexpr int kDqFloats = kQueries * kHeadDim;
  static constexpr int kRowFloats = 3 * kQueries;
  static constexpr int kDqSums = kDqFloats / (kConsumers * kWarpgroup);
  static constexpr unsigned kDqBytes = kDqFloats * sizeof(float);
  static constexpr unsigned kRowBytes = kRowFloats * sizeof(float);
  // Tiles lie in boxes of 64 columns, dS (keys by queries) as well.
  static constexpr int kHeadBoxes = kHeadDim / kBoxRow, kQueryBoxes = kQueries / kBoxRow;
  static constexpr unsigned kKeyBoxBytes = kKeys * kBoxRow * 2;
  static constexpr unsigned kQueryBoxBytes = kQueries * kBoxRow * 2;
  static constexpr unsigned kKeyBytes = kHeadBoxes * kKeyBoxBytes;
  static constexpr unsigned kQueryBytes = kHeadBoxes * kQueryBoxBytes;
  static constexpr unsigned kScoreBytes = kQueryBoxes * kKeyBoxBytes;
  static constexpr bool kWaitForDk = kHeadDim == 64;  // registers are short
  using Position = RingPosition<kStages>;
  static_assert(kDqSums == 32 && kConsumers * 64 == kKeys);
  /// Of dq a warpgroup sums 64 queries by 64 columns.
  [[nodiscard]] __device__ static constexpr int dq_query(int warpgroup) {
    return kQueryBoxes == 2 ? warpgroup * 64 : 0;
  }
  [[nodiscard]] __device__ static constexpr int dq_column(int warpgroup) {
    return kHeadBoxes == 2 ? warpgroup * 64 : 0;
  }
};

/// What a stage of the ring asks of its readers.
struct BackwardStep {
  int first_token;  // of the tile of queries
  int head;
  int first_key, group, part;  // the keys that the block holds, and which heads of the group
  int turn;                    // how many tiles of keys add to dq before this one
  bool masked;                 // some query does not see some key
  bool final;                  // no tile of keys adds to dq afterwards
  bool last;                   // the last tile for these keys
  bool empty;                  // no query sees these keys
  bool stop;                   // no more work
};

inline constexpr unsigned kSharedAlignment = 1024;  // the swizzle repeats after as many bytes

/// The block's shared memory.
template <class P>
struct BackwardShared {
  unsigned char key[P::kKeyBytes], value[P::kKeyBytes];
  unsigned char ds[2][P::kScoreBytes];
  struct Stage {
    unsigned char query[P::kQueryBytes], dout[P::kQueryBytes];
  } stages[P::kStages];
  float dq[P::kDqFloats];
  float rows[P::kStages][P::kRowFloats];
  BackwardStep step[P::kStages];
  Barrier full[P::kStages], empty[P::kStages];
  Barrier keys_full, keys_empty;
  Barrier dq_full, dq_empty;
  Barrier turn_come[P::kStages];

  __device__ void init_barriers() {
    constexpr unsigned kConsumerWarps = P::kConsumers * kWarpgroup / kWarpSize;
    for (int i = 0; i < P::kStages; ++i) {
      full[i].init(1);
      empty[i].init(kConsumerWarps + 2);  // and those who look after dq
      turn_come[i].init(1);
    }
    keys_full.init(1);
    keys_empty.init(kConsumerWarps);
    dq_full.init(kConsumerWarps);
    dq_empty.init(1);
    fence_barrier_init();
  }
};

template <class P>
struct BackwardArgs {
  BackwardCall<typename P::Elem> call;
  BackwardScratch scratch;
  int key_column, value_column, query_column, dout_column;  // of head 0
  int key_tiles, query_tiles;
  int parts;  // pieces of work that share the heads of a group
};

/// The calling warp has read what the barrier guards.
__device__ inline void release_warp(Barrier& empty) {
  __syncwarp();
  if (threadIdx.x % kWarpSize == 0) empty.arrive();
}

}  // namespace shoal::ops::cuda::hopper
