#pragma once
// Backward attention for bf16 and f16 on Hopper, after FlashAttention-3 (Shah et al. 2024,
// arXiv:2407.08608). One persistent block of three warpgroups on each multiprocessor takes tiles of
// 128 keys of a group; for each it walks the tiles of queries that see them, over all heads of the
// group:
//
//   S^T = K Q^T, P^T = exp(S^T - lse), dP^T = V dO^T, dS^T = P^T (dP^T - delta)
//   dV += P^T dO, dK += dS^T Q   in registers, with P^T and dS^T as operands in registers
//   dQ += dS K                   in memory, dS passing through shared memory
//
//   warpgroup 0: two single threads, the producer and the turn keeper.
//   warpgroups 1 and 2: the consumers, 64 keys each.
//
// Sums of dQ come from several blocks: deterministic, since tiles of keys add in turn, from the
// last to the first. A block starts at the queries of its own tokens, when the keys behind it have
// passed them already: nobody waits long. The first to add overwrites, the last one writes dq
// itself.
#include "ops/hopper/attention_backward_consume.cuh"
#include "ops/hopper/attention_backward_order.cuh"

namespace shoal::ops::cuda::hopper {

template <class P>
struct BackwardConsumer {
  using Elem = typename P::Elem;
  static constexpr int kScores = P::kQueries / 2;
  BackwardShared<P>& shared;
  const BackwardArgs<P>& args;
  int warpgroup;
  typename P::Position at{};
  unsigned keys_parity = 0, turn_parity = 0;

  __device__ void run() {
    for (;;) {
      shared.full[at.stage].wait(at.parity);
      const BackwardStep& step = shared.step[at.stage];
      if (step.stop) return;
      const int first_key = step.first_key, group = step.group;
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
    int stage = at.stage;
    start_scores(s, stage);
    wait_products<0>();
    fence_registers(s);
    start_dp(dp, stage);
    compute_probabilities(p, s, stage);
    wait_products<0>();
    fence_registers(dp);
    for (int buffer = 0;; buffer ^= 1) {
      begin_products();
      add_weighted<P>(dv, p, dout(stage));
      commit_products();
      differentiate<P>(dp, p, shared.rows[stage] + P::kQueries, place().quad);
      round_sums<Elem>(ds, dp);
      const BoxTile tile{shared_address(shared.ds[buffer]), P::kKeyBoxBytes};
      share_ds<P>(tile.address, ds, place());
      fence_async_proxy();
      meet_consumers<P>();
      if (P::kWaitForDv) {
        wait_products<0>();
        fence_operands(p);
      }
      at.advance();
      if (shared.step[stage].last) {
        start_dq(dq, tile);
        start_dk(dk, ds, stage);
        wait_products<1>();
        fence_registers(dq);
        hand_over(dq, stage);
        break;
      }
      shared.full[at.stage].wait(at.parity);
      start_dq(dq, tile);
      start_scores(s, at.stage);
      start_dk(dk, ds, stage);
      wait_products<2>();
      fence_registers(dq);
      if (!P::kWaitForDv) fence_operands(p);
      hand_over(dq, stage);
      wait_products<P::kWaitForDk ? 0 : 1>();
      fence_registers(s);
      if (P::kWaitForDk) fence_operands(ds);
      start_dp(dp, at.stage);
      compute_probabilities(p, s, at.stage);
      wait_products<0>();
      fence_registers(dp);
      if (!P::kWaitForDk) fence_operands(ds);
      release_warp(shared.empty[stage]);
      stage = at.stage;
    }
    wait_products<0>();
    fence_registers(dk);
    fence_registers(dv);
    fence_operands(p);
    fence_operands(ds);
    release_warp(shared.empty[stage]);
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
  __device__ void hand_over(float (&dq)[P::kDqSums], int stage) {
    const BackwardStep& step = shared.step[stage];
    const std::int64_t pair =
        std::int64_t{step.head} * args.query_tiles + step.first_token / P::kQueries;
    float* places = args.scratch.dq + pair * P::kDqFloats + warpgroup * P::kDqSums * kWarpgroup +
                    place().thread * 4;
    shared.turn_come.wait(turn_parity);
    turn_parity ^= 1U;
    if (step.final) {
      finish_dq<P>(dq, places, step.turn == 0, args, step, place());
    } else {
      pass_on<P>(dq, places, step.turn == 0);
    }
    release_warp(shared.turn_taken);
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
  extern __shared__ unsigned char raw[];
  auto& shared = BackwardShared<P>::at(raw);
  if (threadIdx.x == 0) shared.init_barriers();
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    shrink_registers<P::kProducerRegisters>();
    if (threadIdx.x == 0) {
      BackwardProducer<P>{shared, args, maps}.run();
    } else if (threadIdx.x == kWarpSize) {
      keep_turns<P>(shared, args);
    }
  } else {
    grow_registers<P::kConsumerRegisters>();
    const int warp = __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpSize, 0);
    BackwardConsumer<P>{shared, args, warp / 4 - 1}.run();
  }
#endif
}

}  // namespace shoal::ops::cuda::hopper
