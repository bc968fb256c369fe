#pragma once
// A consumer warpgroup of forward attention: 64 queries of a tile. In step s it multiplies queries
// and keys of its tile s, and the weights of tile s - 1 and their values; while these products run
// on, it takes the softmax of the scores. The results of an item leave the registers while the
// first scores of the next one are multiplied.
#include "ops/hopper/attention_forward_plan.cuh"
#include "ops/hopper/attention_softmax.cuh"
#include "ops/hopper/sum_rows.cuh"

namespace shoal::ops::cuda::hopper {

/// What a thread holds of an item: weights are the rounded powers of the scores.
template <class P>
struct ConsumerRegisters {
  float scores[P::kKeys / 2];
  float sums[P::kHeadDim / 2];
  RowsOperand weights[P::kKeys / kProductInner];
  SoftmaxRows rows;
};

template <class P>
class Consumer {
 public:
  using Elem = typename P::Elem;
  using Call = ForwardCall<Elem>;
  using Registers = ConsumerRegisters<P>;

  __device__ Consumer(ForwardShared<P>& shared, const Call& call)
      : shared_{shared},
        call_{call},
        warpgroup_{static_cast<int>(threadIdx.x) / kWarpgroup - 1},
        scale_{call.scale * kLog2E} {}

  __device__ void run() {
    Registers own{};
    while (next_item()) {
      if (range().count > 0) {
        attend(own);
      } else {
        write(finish(own));
        clear(own);
        pass_over_all();
      }
      done_ = at_item_.stage;
      at_item_.advance();
    }
    write(finish(own));
  }

 private:
  /// Waits for the next item; false: there is no more work.
  __device__ bool next_item() {
    shared_.item_full[at_item_.stage].wait(at_item_.parity);
    return item().row >= 0;
  }
  // Fields are read from shared memory where they are used: registers are scarce.
  [[nodiscard]] __device__ const Item<P>& item() const { return shared_.items[at_item_.stage]; }
  [[nodiscard]] __device__ const KeyRange& range() const { return item().range[warpgroup_]; }
  [[nodiscard]] __device__ SumPlace place() const {
    return {warpgroup_, static_cast<int>(threadIdx.x) % kWarpgroup};
  }

  __device__ static void release(Barrier& empty) {
    __syncwarp();
    if (threadIdx.x % kWarpSize == 0) empty.arrive();
  }
  __device__ void release_slot(int slot) { release(shared_.empty[slot]); }

  /// Waits for the next slot of the ring.
  __device__ int take_slot() {
    const int slot = at_slot_.stage;
    shared_.full[slot].wait(at_slot_.parity);
    at_slot_.advance();
    return slot;
  }
  /// Frees slots of tiles that only other warpgroups visit.
  __device__ void pass_over(int slots) {
#pragma unroll 1
    for (; slots > 0; --slots) release_slot(take_slot());
  }
  __device__ void pass_over_all() {
    if (item().tiles == 0) return;
    take_queries();
    release(shared_.query_empty);
    pass_over(2 * item().tiles);
  }
  __device__ void take_queries() {
    shared_.query_full.wait(query_parity_);
    query_parity_ ^= 1U;
  }

  /// Slots come as keys 0, keys 1, values 0, keys 2, values 1, ...
  __device__ void attend(Registers& own) {
    take_queries();
    pass_over(max(0, 2 * range().skip - 1));
    first_step(own);
    int tile = item().last_tile - range().skip;
    const int last = tile - range().count + 1;
#pragma unroll 1
    while (--tile >= last) next_step(own, tile);
    release(shared_.query_empty);
    const int left = item().tiles - range().skip - range().count;  // tiles of others
    if (left > 0) pass_over(1);
    last_step(own);
    pass_over(2 * left - 1);
  }

  __device__ void first_step(Registers& own) {
    const int key = take_slot();
    const Results results = finish(own);
    begin_products();
    multiply_scores(own.scores, key);
    commit_products();
    write(results);
    wait_products<0>();
    fence_registers(own.scores);
    release_slot(key);
    if (range().skip > 0) pass_over(1);
    clear(own);
    const int tile = item().last_tile - range().skip;
    hide_later(own.scores, queries(tile));
    hide_earlier_documents(own.scores, tile);
    begin_softmax(own.scores, own.rows, scale_);
    round_sums<Elem>(own.weights, own.scores);
  }

  __device__ void next_step(Registers& own, int tile) {
    const int key = take_slot(), value = take_slot();
    begin_products();
    multiply_scores(own.scores, key);
    commit_products();
    add_values(own.sums, own.weights, value);
    commit_products();
    wait_products<1>();
    fence_registers(own.scores);
    release_slot(key);
    hide_earlier_documents(own.scores, tile);
    float factor[2];
    const bool grew = continue_softmax(own.scores, own.rows, scale_, factor);
    wait_products<0>();
    fence_registers(own.sums);
    release_slot(value);
    if (grew) {
#pragma unroll
      for (int i = 0; i < P::kHeadDim / 2; ++i) own.sums[i] *= factor[i / 2 % 2];
    }
    round_sums<Elem>(own.weights, own.scores);
  }

  __device__ void last_step(Registers& own) {
    const int value = take_slot();
    begin_products();
    add_values(own.sums, own.weights, value);
    commit_products();
    wait_products<0>();
    fence_registers(own.sums);
    release_slot(value);
  }

  /// scores = queries keys^T; asynchronous, as add_values.
  __device__ void multiply_scores(float (&scores)[P::kKeys / 2], int slot) const {
    const unsigned query = shared_address(shared_.query);
    const unsigned keys = shared_address(shared_.slots[slot]);
    const int row = warpgroup_ * kGroupRows;
    multiply_add<Elem, false, false, false>(scores, P::Query::with_inner_columns(query, row, 0),
                                            P::Keys::with_inner_columns(keys, 0, 0));
#pragma unroll
    for (int inner = kProductInner; inner < P::kHeadDim; inner += kProductInner) {
      multiply_add<Elem, false, false>(scores, P::Query::with_inner_columns(query, row, inner),
                                       P::Keys::with_inner_columns(keys, 0, inner));
    }
  }
  /// sums += weights values.
  __device__ void add_values(float (&sums)[P::kHeadDim / 2],
                             const RowsOperand (&weights)[P::kKeys / kProductInner],
                             int slot) const {
    const unsigned values = shared_address(shared_.slots[slot]);
#pragma unroll
    for (int i = 0; i < P::kKeys / kProductInner; ++i) {
      multiply_add<Elem, true>(sums, weights[i],
                               P::Keys::with_inner_rows(values, i * kProductInner, 0));
    }
  }

  __device__ static void clear(Registers& own) {
#pragma unroll
    for (float& sum : own.sums) sum = 0.0F;
    own.rows = {};
  }

  /// The thread's queries, counted from its first column of a tile of scores.
  [[nodiscard]] __device__ RowPair queries(int tile) const {
    const SumPlace mine = place();
    const int first = item().row + mine.row - tile * P::kKeys - 2 * mine.quad;
    return {first, first + 8};
  }
  __device__ void hide_earlier_documents(float (&scores)[P::kKeys / 2], int tile) const {
    if (tile * P::kKeys >= range().last_start) return;
    const SumPlace mine = place();
    const int origin = tile * P::kKeys + 2 * mine.quad, most = call_.rules.tokens - 1;
    const int query = item().row + mine.row;
    hide_earlier(scores, {call_.rules.doc_start[min(query, most)] - origin,
                          call_.rules.doc_start[min(query + 8, most)] - origin});
  }

  /// Outputs of the item before, rounded: rounded[2j + half] is a pair of columns of block j. Rows
  /// beyond the tokens have no place.
  struct Results {
    unsigned rounded[P::kHeadDim / 4];
    Elem* out[2];
  };
  /// Divides by the totals and writes the lse. Inactive pairs get zeros and an lse of infinity.
  __device__ Results finish(const Registers& own) {
    Results results{};
    if (done_ < 0) return results;
    const int head = shared_.items[done_].head, group = head / (call_.heads / call_.groups);
    const int row = shared_.items[done_].row + place().row;
    release(shared_.item_empty[done_]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = row + half * 8;
      const float total = quad_sum(own.rows.total[half]), factor = 1.0F / total;
      const bool inside = t < call_.rules.tokens;
      const bool active = inside && call_.rules.active(t, group);
      results.out[half] = inside ? call_.out.row(head, t) : nullptr;
#pragma unroll
      for (int j = 0; j < P::kHeadDim / 8; ++j) {
        const float* pair = own.sums + 4 * j + 2 * half;
        const unsigned value = pack_pair<Elem>(pair[0] * factor, pair[1] * factor);
        results.rounded[2 * j + half] = active ? value : 0;
      }
      if (call_.lse != nullptr && inside && place().quad == 0) {
        call_.lse[std::int64_t{head} * call_.rules.tokens + t] =
            active ? own.rows.maximum[half] * call_.scale + logf(total) : INFINITY;
      }
    }
    return results;
  }
  __device__ void write(const Results& results) const {
    const SumPlace mine = place();
    for_each_eight<P::kHeadDim / 8>(mine, [&](int /*row*/, int column, int block, int half) {
      const unsigned* pair = results.rounded + 2 * block + half;
      const Eight value = exchange_in_quad(pair[0], pair[2], pair[4], pair[6], mine.quad);
      if (results.out[half] != nullptr) store_eight(results.out[half] + column, value);
    });
  }

  ForwardShared<P>& shared_;
  const Call& call_;
  const int warpgroup_;
  const float scale_;  // of scores in base 2
  typename P::Position at_slot_;
  RingPosition<ForwardShared<P>::kItems> at_item_;
  int done_ = -1;  // the item that the registers hold results of
  unsigned query_parity_ = 0;
};

}  // namespace shoal::ops::cuda::hopper
