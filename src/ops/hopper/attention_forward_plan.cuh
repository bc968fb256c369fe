#pragma once
// Shape of the forward attention kernel, its shared memory, and the query tile of one head that a
// block works on: which key tiles each consumer warpgroup visits. Key tiles are numbered from token
// 0 of the batch and visited from the diagonal backwards, so that the first one that a warpgroup
// visits holds the own key of each of its 64 queries.
#include "ops/hopper/attention_order.cuh"
#include "ops/hopper/attention_tiles.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kGroupRows = 64;  // queries of a warpgroup

template <class ElemType, int kHeadDimValue>
struct ForwardPlan {
  using Elem = ElemType;
  static constexpr int kHeadDim = kHeadDimValue;
  static constexpr int kConsumers = kHeadDim == 64 ? 3 : 2;  // warpgroups
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr int kRows = kConsumers * kGroupRows;
  static constexpr int kKeys = 128;
  static constexpr int kSlots = kHeadDim == 64 ? 8 : 6;  // of a tile of keys or of values
  // 65,536 registers: shared out evenly at the start, then these.
  static constexpr int kProducerRegisters = kConsumers == 3 ? 32 : 40;
  static constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : 232;
  using Query = TokenTile<kRows, kHeadDim>;
  using Keys = TokenTile<kKeys, kHeadDim>;
  using Position = RingPosition<kSlots>;
};

/// The key tiles of one warpgroup: `count` of the item's from its `skip`-th on; none if it has no
/// active query. last_start: where the document of its last query begins.
struct KeyRange {
  int skip, count, last_start;
};

/// Queries [row, row + kRows) of a head. Key tiles last_tile, last_tile - 1, ..., `tiles` of them.
/// No tiles: no query is active. A negative row: there is no more work.
template <class P>
struct Item {
  int row, head, last_tile, tiles;
  KeyRange range[P::kConsumers];
};

template <class Elem>
struct ForwardArgs {
  ForwardCall<Elem> call;
  QueryOrder order;
  HeadColumns q, k, v;
};

/// Stages are aligned to the swizzle. Of three items one is being written, one attended to and one
/// prepared by the producer.
template <class P>
struct ForwardShared {
  static constexpr int kItems = 3;
  unsigned char query[P::Query::kBytes];
  unsigned char slots[P::kSlots][P::Keys::kBytes];
  Barrier query_full, query_empty;
  Barrier full[P::kSlots], empty[P::kSlots];
  Barrier item_full[kItems], item_empty[kItems];
  Item<P> items[kItems];

  static constexpr std::size_t kBytesToAlign = P::Keys::kEightRows;
  [[nodiscard]] static std::size_t bytes() { return kBytesToAlign + sizeof(ForwardShared); }
  [[nodiscard]] __device__ static ForwardShared& at(unsigned char* raw) {
    const auto gap = static_cast<unsigned>(-shared_address(raw)) % unsigned{kBytesToAlign};
    return *reinterpret_cast<ForwardShared*>(raw + gap);
  }
  __device__ void init_barriers() {
    constexpr unsigned kConsumerWarps = P::kConsumers * kWarpgroup / kWarpSize;
    query_full.init(1);
    query_empty.init(kConsumerWarps);
    for (int i = 0; i < P::kSlots; ++i) {
      full[i].init(1);
      empty[i].init(kConsumerWarps);
    }
    for (int i = 0; i < kItems; ++i) {
      item_full[i].init(kWarpSize);
      item_empty[i].init(kConsumerWarps);
    }
    fence_barrier_init();
  }
};

/// All lanes of a warp call; lane w holds the range of warpgroup w.
template <class P>
struct ItemRanges {
  int last_tile, tiles;
  KeyRange mine;

  __device__ ItemRanges(const TokenRules& rules, int row, int group) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    bool active = false;
#pragma unroll
    for (int w = 0; w < P::kConsumers; ++w) {
      const int first = row + w * kGroupRows;
      const int count = min(kGroupRows, rules.tokens - first);
      const bool any = count > 0 && rules.any_active(first, count, group);
      if (lane == w) active = any;
    }
    const int first = row + lane * kGroupRows;
    const int last = min(first + kGroupRows, rules.tokens) - 1;
    const int first_start = active ? rules.doc_start[first] : 0;
    mine.last_start = active ? rules.doc_start[last] : 0;
    const int high = active ? last / P::kKeys : -1;
    const int low = active ? first_start / P::kKeys : 0x7FFFFFFF;
    last_tile = __reduce_max_sync(kFullWarp, high);
    tiles = last_tile < 0 ? 0 : last_tile - __reduce_min_sync(kFullWarp, low) + 1;
    mine.skip = active ? last_tile - high : 0;
    mine.count = active ? high - low + 1 : 0;
  }
};

}  // namespace shoal::ops::cuda::hopper
