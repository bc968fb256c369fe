#pragma once
// A consumer warpgroup of forward attention: 64 queries of a tile. In step s it multiplies queries
// and keys of its tile s, and in the same turn the weights of tile s - 1 and their values; while
// these products run on, it takes the softmax of the scores. Warpgroups start products in turn, so
// that one multiplies during the other's softmax.
#include "ops/hopper/attention_forward_plan.cuh"
#include "ops/hopper/attention_softmax.cuh"
#include "ops/hopper/sum_rows.cuh"

namespace shoal::ops::cuda::hopper {

/// Named barriers by which the consumer warpgroups pass on the right to start products.
template <int kConsumers>
struct Turn {
  int warpgroup;
  __device__ void wait() const {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + warpgroup), "n"(2 * kWarpgroup) : "memory");
  }
  __device__ void pass() const {
    const int next = warpgroup + 1 < kConsumers ? warpgroup + 1 : 0;
    asm volatile("bar.arrive %0, %1;" ::"r"(1 + next), "n"(2 * kWarpgroup) : "memory");
  }
};

template <class P>
class Consumer {
 public:
  using Elem = typename P::Elem;
  using Call = ForwardCall<Elem>;

  __device__ Consumer(ForwardShared<P>& shared, const Call& call)
      : shared_{shared},
        call_{call},
        turn_{static_cast<int>(threadIdx.x) / kWarpgroup - 1},
        place_{turn_.warpgroup, static_cast<int>(threadIdx.x) % kWarpgroup},
        scale_{call.scale * kLog2E} {}

  __device__ void run() {
    if (turn_.warpgroup == P::kConsumers - 1) turn_.pass();  // the first one may begin
    while (take_item()) {
      float sums[P::kHeadDim / 2] = {};
      SoftmaxRows rows{};
      if (tiles_ > 0) attend(sums, rows);
      write(sums, rows);
    }
    if (turn_.warpgroup == 0) turn_.wait();
  }

 private:
  static constexpr int kScores = P::kKeys / 2;

  /// Whether there is work.
  __device__ bool take_item() {
    shared_.item_full[item_.stage].wait(item_.parity);
    const Item<P>& item = shared_.items[item_.stage];
    row_ = item.row;
    head_ = item.head;
    last_tile_ = item.last_tile;
    tiles_ = item.tiles;
    range_ = item.range[turn_.warpgroup];
    release(shared_.item_empty[item_.stage]);
    item_.advance();
    return row_ >= 0;
  }

  __device__ static void release(Barrier& empty) {
    __syncwarp();
    if (threadIdx.x % kWarpSize == 0) empty.arrive();
  }
  __device__ void release_slot(int slot) { release(shared_.empty[slot]); }

  /// Waits for the next slot of the ring.
  __device__ int take_slot() {
    const int slot = at_.stage;
    shared_.full[slot].wait(at_.parity);
    at_.advance();
    return slot;
  }

  /// A step of other warpgroups: passes on the turn and frees what they use.
  __device__ void pass_over(int step) {
    turn_.wait();
    turn_.pass();
    if (step < tiles_) release_slot(take_slot());
    if (step > 0) release_slot(take_slot());
  }

  __device__ void attend(float (&sums)[P::kHeadDim / 2], SoftmaxRows& rows) {
    shared_.query_full.wait(query_parity_);
    query_parity_ ^= 1U;
    int step = 0;
    const int begin = range_.count > 0 ? range_.skip : tiles_ + 1;
    for (; step < begin; ++step) pass_over(step);
    if (range_.count == 0) return release(shared_.query_empty);

    float scores[kScores] = {};
    RowsOperand weights[P::kKeys / 16];
    first_step(scores, rows, step);
    round_sums<Elem>(weights, scores);
    const int end = begin + range_.count;
    for (++step; step < end; ++step) {
      next_step(sums, scores, weights, rows, step);
      round_sums<Elem>(weights, scores);
    }
    release(shared_.query_empty);
    last_step(sums, weights, step);
    for (++step; step <= tiles_; ++step) pass_over(step);
  }

  __device__ void first_step(float (&scores)[kScores], SoftmaxRows& rows, int step) {
    const int key = take_slot();
    if (step > 0) release_slot(take_slot());  // values of a tile that only others visit
    turn_.wait();
    begin_products();
    multiply_scores(scores, key);
    commit_products();
    turn_.pass();
    wait_products<0>();
    fence_registers(scores);
    release_slot(key);
    hide_scores(scores, visible_keys(last_tile_ - step));
    begin_softmax(scores, rows, scale_);
  }

  __device__ void next_step(float (&sums)[P::kHeadDim / 2], float (&scores)[kScores],
                            RowsOperand (&weights)[P::kKeys / 16], SoftmaxRows& rows, int step) {
    const int key = take_slot(), value = take_slot(), tile = last_tile_ - step;
    turn_.wait();
    begin_products();
    multiply_scores(scores, key);
    commit_products();
    add_values(sums, weights, value);
    commit_products();
    turn_.pass();
    wait_products<1>();
    fence_registers(scores);
    release_slot(key);
    if (tile * P::kKeys < range_.last_start) hide_scores(scores, visible_keys(tile));
    float factor[2];
    const bool grew = continue_softmax(scores, rows, scale_, factor);
    wait_products<0>();
    fence_registers(sums);
    release_slot(value);
    if (grew) {
#pragma unroll
      for (int i = 0; i < P::kHeadDim / 2; ++i) sums[i] *= factor[i / 2 % 2];
    }
  }

  __device__ void last_step(float (&sums)[P::kHeadDim / 2], RowsOperand (&weights)[P::kKeys / 16],
                            int step) {
    if (step < tiles_) release_slot(take_slot());  // keys of a tile that only others visit
    const int value = take_slot();
    turn_.wait();
    begin_products();
    add_values(sums, weights, value);
    commit_products();
    turn_.pass();
    wait_products<0>();
    fence_registers(sums);
    release_slot(value);
  }

  /// scores = queries keys^T; asynchronous, as add_values.
  __device__ void multiply_scores(float (&scores)[kScores], int slot) const {
    const unsigned query = shared_address(shared_.query);
    const unsigned keys = shared_address(shared_.slots[slot]);
    const int row = turn_.warpgroup * kGroupRows;
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
                             const RowsOperand (&weights)[P::kKeys / 16], int slot) const {
    const unsigned values = shared_address(shared_.slots[slot]);
#pragma unroll
    for (int i = 0; i < P::kKeys / kProductInner; ++i) {
      multiply_add<Elem, true>(sums, weights[i],
                               P::Keys::with_inner_rows(values, i * kProductInner, 0));
    }
  }

  [[nodiscard]] __device__ VisibleKeys visible_keys(int tile) const {
    const int origin = tile * P::kKeys + place_.quad * 2;
    VisibleKeys keys;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = row_ + place_.row + half * 8;
      const int start = range_.first_start == range_.last_start
                            ? range_.last_start
                            : call_.rules.doc_start[min(t, call_.rules.tokens - 1)];
      keys.first[half] = start - origin;
      keys.last[half] = t - origin;
    }
    return keys;
  }

  /// Divides by the totals and writes outputs and lse; inactive pairs write zeros and infinity.
  __device__ void write(float (&sums)[P::kHeadDim / 2], const SoftmaxRows& rows) const {
    const int group = head_ / (call_.heads / call_.groups);
    bool inside[2], active[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = row_ + place_.row + half * 8;
      const float total = quad_sum(rows.total[half]);
      inside[half] = t < call_.rules.tokens;
      active[half] = inside[half] && call_.rules.active(t, group);
      const float factor = 1.0F / total;
#pragma unroll
      for (int i = 2 * half; i < P::kHeadDim / 2; i += 4) {
        sums[i] *= factor;
        sums[i + 1] *= factor;
      }
      if (call_.lse != nullptr && inside[half] && place_.quad == 0) {
        call_.lse[std::int64_t{head_} * call_.rules.tokens + t] =
            active[half] ? rows.maximum[half] * call_.scale + logf(total) : INFINITY;
      }
    }
    for_each_eight<P::kHeadDim / 8>(place_, [&](int row, int column, int block, int half) {
      const Eight value = eight_of<Elem>(sums, block, half, place_.quad);
      if (!inside[half]) return;
      store_eight(call_.out.row(head_, row_ + row) + column,
                  active[half] ? value : Eight{0, 0, 0, 0});
    });
  }

  ForwardShared<P>& shared_;
  const Call& call_;
  const Turn<P::kConsumers> turn_;
  const SumPlace place_;
  const float scale_;  // of scores in base 2
  typename P::Position at_;
  RingPosition<ForwardShared<P>::kItems> item_;
  unsigned query_parity_ = 0;
  int row_ = 0, head_ = 0, last_tile_ = 0, tiles_ = 0;  // of the item
  KeyRange range_{};
};

}  // namespace shoal::ops::cuda::hopper
