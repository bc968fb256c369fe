#pragma once
// The producer warp of forward attention: draws query tiles, tells the consumers which key tiles
// they have, and has the copy engine bring queries, keys and values as far ahead as the ring is
// long. Keys of a tile come a step before its values: the consumers multiply them in this order.
#include "ops/hopper/attention_forward_plan.cuh"

namespace shoal::ops::cuda::hopper {

/// Tensor maps of whole rows, and which columns of them are heads.
struct ForwardMaps {
  const CUtensorMap& q;
  const CUtensorMap& k;
  const CUtensorMap& v;
};

template <class P>
class Producer {
 public:
  __device__ Producer(ForwardShared<P>& shared, const ForwardArgs<typename P::Elem>& args,
                      const ForwardMaps& maps)
      : shared_{shared}, args_{args}, maps_{maps} {}

  /// All lanes of the warp call.
  __device__ void run() {
    int index = __shfl_sync(kFullWarp, draw(), 0);
    while (index < args_.order.count()) {
      const QueryOrder::Place place = args_.order.at(index);
      const int row = place.tile * P::kRows;
      const int group = place.head / (args_.call.heads / args_.call.groups);
      const ItemRanges<P> ranges{args_.call.rules, row, group};
      publish({row, place.head, ranges.last_tile, ranges.tiles}, ranges.mine);
      const int next = draw();
      if (lane_ == 0 && ranges.tiles > 0) load(place.head, group, row, ranges);
      __syncwarp();
      index = __shfl_sync(kFullWarp, next, 0);
    }
    publish({-1, 0, 0, 0}, {});
  }

 private:
  [[nodiscard]] __device__ int draw() const {
    return lane_ == 0 ? atomicAdd(args_.order.counter, 1) : 0;
  }

  __device__ void publish(const int4& head, const KeyRange& mine) {
    Item<P>& item = shared_.items[item_.stage];
    shared_.item_empty[item_.stage].wait(item_.parity ^ 1U);
    if (lane_ == 0) {
      item.row = head.x;
      item.head = head.y;
      item.last_tile = head.z;
      item.tiles = head.w;
    }
    if (lane_ < P::kConsumers) item.range[lane_] = mine;
    shared_.item_full[item_.stage].arrive();
    item_.advance();
  }

  /// A tile of keys or values into the next slot.
  __device__ void load_slot(const CUtensorMap& map, int tile, int column) {
    Barrier& full = shared_.full[at_.stage];
    shared_.empty[at_.stage].wait(at_.parity ^ 1U);
    full.arrive_expecting(P::Keys::kBytes);
    P::Keys::load(shared_address(shared_.slots[at_.stage]), map, tile * P::kKeys, column, full);
    at_.advance();
  }

  __device__ void load(int head, int group, int row, const ItemRanges<P>& ranges) {
    const int last = ranges.last_tile, tiles = ranges.tiles;
    load_slot(maps_.k, last, args_.k.of(group));
    shared_.query_empty.wait(query_parity_ ^ 1U);
    query_parity_ ^= 1U;
    shared_.query_full.arrive_expecting(P::Query::kBytes);
    P::Query::load(shared_address(shared_.query), maps_.q, row, args_.q.of(head),
                   shared_.query_full);
    for (int step = 1; step <= tiles; ++step) {
      if (step < tiles) load_slot(maps_.k, last - step, args_.k.of(group));
      load_slot(maps_.v, last - step + 1, args_.v.of(group));
    }
  }

  ForwardShared<P>& shared_;
  const ForwardArgs<typename P::Elem>& args_;
  const ForwardMaps& maps_;
  const int lane_ = static_cast<int>(threadIdx.x) % kWarpSize;
  typename P::Position at_;
  RingPosition<ForwardShared<P>::kItems> item_;
  unsigned query_parity_ = 0;
};

}  // namespace shoal::ops::cuda::hopper
