#pragma once
// The two threads of backward attention that move no sums: the producer, which finds work and has
// the copy engine bring it, and the turn keeper, which makes tiles of keys add to dq in order.
#include "ops/hopper/attention_backward_plan.cuh"

namespace shoal::ops::cuda::hopper {

struct BackwardMaps {
  CUtensorMap query, dout, key, value;
};

/// Tiles of queries that see some key of a tile and have its group active, head by head of the
/// group, from the tile of the first key on.
struct QueryTileWalk {
  const QueryTile* tiles;
  int count;  // of tiles of a head
  int first, last_key, head, end_head, index;
  QueryTile now{};

  [[nodiscard]] __device__ bool done() const { return head == end_head; }
  __device__ void next() {
    ++index;
    settle();
  }
  /// Forward to the first tile with work, from the current one on.
  __device__ void settle() {
    while (head < end_head) {
      if (index < count) now = tiles[std::int64_t{head} * count + index];
      if (index == count || now.first_key > last_key) {
        ++head;
        index = first;
      } else if (now.active != 0) {
        return;
      } else {
        ++index;
      }
    }
  }
};

template <class P>
struct BackwardProducer {
  BackwardShared<P>& shared;
  const BackwardArgs<P>& args;
  const BackwardMaps& maps;
  typename P::Position at{};
  unsigned keys_parity = 1;

  /// Work is dealt by ticket: tiles of keys of a group from the last to the first. Each tile starts
  /// with the queries at its own tokens, so that the next keys are always a tile of queries ahead.
  __device__ void run() {
    const int items = args.key_tiles * args.call.groups;
    for (;;) {
      const auto item = static_cast<int>(atomicAdd(args.scratch.ticket, 1U));
      if (item >= items) break;
      const int key_tile = args.key_tiles - 1 - item % args.key_tiles;
      visit(item / args.key_tiles, key_tile * P::kKeys);
    }
    post({.stop = true});
  }

 private:
  __device__ void visit(int group, int first_key) {
    const int heads = args.call.heads / args.call.groups;
    const int last_key = min(first_key + P::kKeys, args.call.rules.tokens) - 1;
    QueryTileWalk walk{.tiles = args.scratch.tile,
                       .count = args.query_tiles,
                       .first = first_key / P::kQueries,
                       .last_key = last_key,
                       .head = group * heads,
                       .end_head = (group + 1) * heads,
                       .index = first_key / P::kQueries};
    walk.settle();
    if (walk.done()) return post({.first_key = first_key, .group = group, .empty = true});
    load_keys(group, first_key);
    while (!walk.done()) {
      const int first_token = walk.index * P::kQueries, key_tile = first_key / P::kKeys;
      BackwardStep step{
          .first_token = first_token,
          .head = walk.head,
          .first_key = first_key,
          .group = group,
          .turn = first_token / P::kKeys - key_tile,
          .masked = first_key + P::kKeys - 1 > first_token || walk.now.last_start > first_key,
          .final = walk.now.first_key / P::kKeys == key_tile};
      walk.next();
      step.last = walk.done();
      load_queries(step);
    }
  }

  __device__ void load_keys(int group, int first_key) {
    shared.keys_empty.wait(keys_parity);
    keys_parity ^= 1U;
    shared.keys_full.arrive_expecting(2 * P::kKeyBytes);
    const int column = group * P::kHeadDim;
    copy_boxes<P::kKeyBoxBytes>(shared.key, maps.key, first_key, args.key_column + column,
                                shared.keys_full);
    copy_boxes<P::kKeyBoxBytes>(shared.value, maps.value, first_key, args.value_column + column,
                                shared.keys_full);
  }

  __device__ void load_queries(const BackwardStep& step) {
    shared.empty[at.stage].wait(at.parity ^ 1U);
    shared.step[at.stage] = step;
    auto& stage = shared.stages[at.stage];
    Barrier& full = shared.full[at.stage];
    full.arrive_expecting(2 * P::kQueryBytes + P::kRowBytes);
    const int column = step.head * P::kHeadDim;
    const std::int64_t pair =
        std::int64_t{step.head} * args.query_tiles + step.first_token / P::kQueries;
    copy_boxes<P::kQueryBoxBytes>(stage.query, maps.query, step.first_token,
                                  args.query_column + column, full);
    copy_bytes(shared_address(shared.rows[at.stage]), args.scratch.rows + pair * P::kRowFloats,
               P::kRowBytes, full);
    copy_boxes<P::kQueryBoxBytes>(stage.dout, maps.dout, step.first_token,
                                  args.dout_column + column, full);
    at.advance();
  }

  template <unsigned kBoxBytes>
  __device__ void copy_boxes(unsigned char* to, const CUtensorMap& map, int row, int column,
                             const Barrier& full) {
#pragma unroll
    for (int box = 0; box < P::kHeadBoxes; ++box) {
      copy_box(shared_address(to) + static_cast<unsigned>(box) * kBoxBytes, map,
               {.matrix = 0, .row = row, .column = column + box * kBoxRow}, full);
    }
  }

  /// A step without tiles.
  __device__ void post(const BackwardStep& step) {
    shared.empty[at.stage].wait(at.parity ^ 1U);
    shared.step[at.stage] = step;
    shared.full[at.stage].arrive();
    at.advance();
  }
};

__device__ inline unsigned read_turn(const unsigned* turn) {
  unsigned value = 0;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(turn) : "memory");
  return value;
}
__device__ inline void write_turn(unsigned* turn, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(turn), "r"(value) : "memory");
}

/// Lets the consumers add to dq once all keys behind theirs have, and tells the keys before.
template <class P>
__device__ void keep_turns(BackwardShared<P>& shared, const BackwardArgs<P>& args) {
  typename P::Position at;
  for (unsigned parity = 0;; at.advance()) {
    shared.full[at.stage].wait(at.parity);
    const BackwardStep step = shared.step[at.stage];
    shared.empty[at.stage].arrive();
    if (step.stop) return;
    if (step.empty) continue;
    unsigned* turn = args.scratch.turn + std::int64_t{step.head} * args.query_tiles +
                     step.first_token / P::kQueries;
    const auto mine = static_cast<unsigned>(step.turn);
    while (mine > 0 && read_turn(turn) != mine) __nanosleep(20);
    shared.turn_come.arrive();
    shared.turn_taken.wait(parity);
    parity ^= 1U;
    if (!step.final) write_turn(turn, mine + 1);
  }
}

}  // namespace shoal::ops::cuda::hopper
