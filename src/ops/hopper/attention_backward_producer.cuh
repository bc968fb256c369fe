#pragma once
// The producer of backward attention: one thread that finds work and has the copy engine bring it.
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

  /// Work is dealt by ticket: some heads of a group with a tile of keys, from the last tile to the
  /// first. A tile starts with the queries at its own tokens, so that the next keys are always a
  /// tile of queries ahead.
  __device__ void run() {
    const int items = args.key_tiles * args.parts * args.call.groups;
    for (;;) {
      const auto item = static_cast<int>(atomicAdd(args.scratch.ticket, 1U));
      if (item >= items) break;
      const int share = item / args.key_tiles;
      const int key_tile = args.key_tiles - 1 - item % args.key_tiles;
      visit({.first_key = key_tile * P::kKeys,
             .group = share / args.parts,
             .part = share % args.parts});
    }
    post({.stop = true});
  }

 private:
  __device__ void visit(BackwardStep step) {
    const int heads = args.call.heads / args.call.groups / args.parts;
    const int first_head = (step.group * args.parts + step.part) * heads;
    QueryTileWalk walk{.tiles = args.scratch.tile,
                       .count = args.query_tiles,
                       .first = step.first_key / P::kQueries,
                       .last_key = min(step.first_key + P::kKeys, args.call.rules.tokens) - 1,
                       .head = first_head,
                       .end_head = first_head + heads,
                       .index = step.first_key / P::kQueries};
    walk.settle();
    if (walk.done()) {
      step.empty = true;
      return post(step);
    }
    load_keys(step.group, step.first_key);
    const int key_tile = step.first_key / P::kKeys;
    while (!walk.done()) {
      step.head = walk.head;
      step.first_token = walk.index * P::kQueries;
      step.turn = step.first_token / P::kKeys - key_tile;
      step.masked =
          step.first_key + P::kKeys - 1 > step.first_token || walk.now.last_start > step.first_key;
      step.final = walk.now.first_key / P::kKeys == key_tile;
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

}  // namespace shoal::ops::cuda::hopper
