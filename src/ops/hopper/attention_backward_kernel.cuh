#pragma once
// Backward attention for bf16 and f16 on Hopper, after FlashAttention-3 (Shah et al. 2024,
// arXiv:2407.08608). One persistent block of three warpgroups on each multiprocessor takes tiles of
// 128 keys of a group; for each it walks the tiles of queries that see them, over all or some heads
// of the group:
//
//   S^T = K Q^T, P^T = exp(S^T - lse), dP^T = V dO^T, dS^T = P^T (dP^T - delta)
//   dV += P^T dO, dK += dS^T Q   in registers, with P^T and dS^T as operands in registers
//   dQ += dS K                   in memory, dS passing through shared memory
//
//   warpgroup 0: three single threads: the producer and two that look after dQ.
//   warpgroups 1 and 2: the consumers, 64 keys each.
//
// Sums of dQ come from several blocks: deterministic, since tiles of keys add in turn, from the
// last to the first. A block starts at the queries of its own tokens, when the keys behind it have
// passed them already: nobody waits long. The first to add overwrites, the last one writes dq
// itself. Where parts of a group's heads have blocks of their own, dK and dV are summed likewise.
#include "ops/hopper/attention_backward_producer.cuh"
#include "ops/hopper/attention_backward_turns.cuh"
#include "ops/hopper/attention_backward_values.cuh"

namespace shoal::ops::cuda::hopper {

template <class P>
struct BackwardConsumer {
  using Elem = typename P::Elem;
  static constexpr int kScores = P::kQueries / 2;
  BackwardShared<P>& shared;
  const BackwardArgs<P>& args;
  int warpgroup;
  typename P::Position at{};
  unsigned keys_parity = 0, dq_parity = 1;

  __device__ void run() {
    for (;;) {
      shared.full[at.stage].wait(at.parity);
      const BackwardStep& step = shared.step[at.stage];
      if (step.stop) return;
      const int first_key = step.first_key, group = step.group, part = step.part;
      float dk[P::kHeadDim / 2] = {}, dv[P::kHeadDim / 2] = {};
      fence_registers(dk);  // or the compiler makes a case of its own of the first tile
      fence_registers(dv);
      if (step.empty) {
        release_warp(shared.empty[at.stage]);
        at.advance();
      } else {
        shared.keys_full.wait(keys_parity);
        keys_parity ^= 1U;
        walk(dk, dv);
        release_warp(shared.keys_empty);
      }
      if (args.parts > 1 && !complete(dk, dv, group, first_key, part)) continue;
      const int tokens_left = args.call.rules.tokens - first_key;
      store_key_rows<P>(args.call.dk.row(group, first_key), args.call.dk.stride, dk,
                        args.call.scale, tokens_left, place());
      store_key_rows<P>(args.call.dv.row(group, first_key), args.call.dv.stride, dv, 1.0F,
                        tokens_left, place());
    }
  }

 private:
  [[nodiscard]] __device__ ConsumerPlace<P> place() const { return ConsumerPlace<P>{warpgroup}; }
  [[nodiscard]] __device__ BoxTile key() const {
    return {shared_address(shared.key), P::kKeyBoxBytes};
  }
  [[nodiscard]] __device__ BoxTile value() const {
    return {shared_address(shared.value), P::kKeyBoxBytes};
  }
  [[nodiscard]] __device__ BoxTile query(int stage) const {
    return {shared_address(shared.stages[stage].query), P::kQueryBoxBytes};
  }
  [[nodiscard]] __device__ BoxTile dout(int stage) const {
    return {shared_address(shared.stages[stage].dout), P::kQueryBoxBytes};
  }

  /// All tiles of queries of one tile of keys. Products run on while the next values are computed:
  /// dV during dS, dK during the exponentials of the next tile.
  __device__ void walk(float (&dk)[P::kHeadDim / 2], float (&dv)[P::kHeadDim / 2]) {
    float s[kScores], dp[kScores], dq[P::kDqSums];
    RowsOperand p[kScores / 8], ds[kScores / 8];
    typename P::Position now = at;
    start_scores(s, now.stage);
    wait_products<0>();
    fence_registers(s);
    start_dp(dp, now.stage);
    compute_probabilities(p, s, now.stage);
    wait_products<0>();
    fence_registers(dp);
    for (int buffer = 0;; buffer ^= 1) {
      begin_products();
      add_weighted<P>(dv, p, dout(now.stage));
      commit_products();
      differentiate<P>(dp, p, shared.rows[now.stage] + P::kQueries, place().quad);
      round_sums<Elem>(ds, dp);
      const BoxTile tile{shared_address(shared.ds[buffer]), P::kKeyBoxBytes};
      share_ds<P>(tile.address, ds, place());
      fence_async_proxy();
      meet_consumers<P>();
      wait_products<0>();
      fence_operands(p);
      at.advance();
      if (shared.step[now.stage].last) {
        start_dq(dq, tile);
        start_dk(dk, ds, now.stage);
        wait_products<1>();
        fence_registers(dq);
        hand_over(dq, now);
        break;
      }
      shared.full[at.stage].wait(at.parity);
      start_dq(dq, tile);
      start_scores(s, at.stage);
      start_dk(dk, ds, now.stage);
      wait_products<2>();
      fence_registers(dq);
      hand_over(dq, now);
      wait_products<P::kWaitForDk ? 0 : 1>();
      fence_registers(s);
      if (P::kWaitForDk) fence_operands(ds);
      start_dp(dp, at.stage);
      compute_probabilities(p, s, at.stage);
      wait_products<0>();
      fence_registers(dp);
      if (!P::kWaitForDk) fence_operands(ds);
      release_warp(shared.empty[now.stage]);
      now = at;
    }
    wait_products<0>();
    fence_registers(dk);
    fence_registers(dv);
    fence_operands(p);
    fence_operands(ds);
    release_warp(shared.empty[now.stage]);
  }

  __device__ void start_scores(float (&s)[kScores], int stage) {
    begin_products();
    multiply_keys<P>(s, key(), warpgroup * 64, query(stage));
    commit_products();
  }
  __device__ void start_dp(float (&dp)[kScores], int stage) {
    begin_products();
    multiply_keys<P>(dp, value(), warpgroup * 64, dout(stage));
    commit_products();
  }
  __device__ void start_dq(float (&dq)[P::kDqSums], const BoxTile& ds) {
    begin_products();
    multiply_ds<P>(dq, ds, P::dq_query(warpgroup), key(), P::dq_column(warpgroup));
    commit_products();
  }
  __device__ void start_dk(float (&dk)[P::kHeadDim / 2], const RowsOperand (&ds)[kScores / 8],
                           int stage) {
    begin_products();
    add_weighted<P>(dk, ds, query(stage));
    commit_products();
  }

  __device__ void compute_probabilities(RowsOperand (&p)[kScores / 8], float (&s)[kScores],
                                        int stage) {
    const float* rows = shared.rows[stage];
    const BackwardStep& step = shared.step[stage];
    to_probabilities<P>(s, rows, args.call.scale * kLog2E, place().quad);
    if (step.masked) {
      hide<P>(s, reinterpret_cast<const int*>(rows + 2 * P::kQueries), step.first_token,
              step.first_key + place().row, place().quad);
    }
    round_sums<Elem>(p, s);
  }

  /// dQ of this tile of keys joins that of the tiles behind.
  __device__ void hand_over(float (&dq)[P::kDqSums], const typename P::Position& now) {
    const BackwardStep& step = shared.step[now.stage];
    const int own = warpgroup * P::kDqSums * kWarpgroup + place().thread * 4;
    if (step.final) {
      const std::int64_t pair =
          std::int64_t{step.head} * args.query_tiles + step.first_token / P::kQueries;
      shared.turn_come[now.stage].wait(now.parity);
      if (step.turn > 0) add_sums(dq, args.scratch.dq + pair * P::kDqFloats + own);
      store_dq<P>(dq, args, step, place());
    } else {
      shared.dq_empty.wait(dq_parity);
      dq_parity ^= 1U;
      put_sums(shared.dq + own, dq);
      fence_async_proxy();
      release_warp(shared.dq_full);
    }
  }

  /// Adds the sums of the parts of the heads before this one. False: other parts follow, and the
  /// sums were put where they will look for them.
  __device__ bool complete(float (&dk)[P::kHeadDim / 2], float (&dv)[P::kHeadDim / 2], int group,
                           int first_key, int part) {
    const std::int64_t tile = std::int64_t{group} * args.key_tiles + first_key / P::kKeys;
    unsigned* turn = args.scratch.part + tile;
    float* places = args.scratch.keys + tile * 2 * P::kKeyFloats +
                    warpgroup * P::kHeadDim / 2 * kWarpgroup + place().thread * 4;
    if (part > 0) {
      while (read_turn(turn) != static_cast<unsigned>(part)) __nanosleep(20);
      add_sums(dk, places);
      add_sums(dv, places + P::kKeyFloats);
    }
    if (part + 1 == args.parts) return true;
    put_sums(places, dk);
    put_sums(places + P::kKeyFloats, dv);
    __threadfence();
    meet_consumers<P>();
    if (threadIdx.x == kWarpgroup) write_turn(turn, static_cast<unsigned>(part) + 1);
    return false;
  }

  template <int kCount>
  __device__ static void fence_operands(RowsOperand (&operands)[kCount]) {
#pragma unroll
    for (RowsOperand& operand : operands) fence_registers(operand);
  }
};

template <class P>
__global__ void __launch_bounds__(P::kThreads, 1)
    attention_backward_kernel(const BackwardArgs<P> args,
                              const __grid_constant__ BackwardMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(kSharedAlignment) unsigned char raw[];
  auto& shared = *reinterpret_cast<BackwardShared<P>*>(raw);
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    shrink_registers<P::kProducerRegisters>();
    if (threadIdx.x == 0) {
      BackwardProducer<P>{shared, args, maps}.run();
    } else if (threadIdx.x == kWarpSize) {
      watch_turns<P>(shared, args);
    } else if (threadIdx.x == 2 * kWarpSize) {
      send_shares<P>(shared, args);
    }
  } else {
    grow_registers<P::kConsumerRegisters>();
    const int warp = __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpSize, 0);
    BackwardConsumer<P>{shared, args, warp / 4 - 1}.run();
  }
#endif
}

}  // namespace shoal::ops::cuda::hopper
