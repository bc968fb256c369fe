#pragma once
// How blocks of backward attention add to common sums in a fixed order: each waits for its turn and
// hands it on. For dq two threads do this: one watches for the block's turn, the other sends the
// block's share from shared memory.
#include "ops/hopper/attention_backward_plan.cuh"

namespace shoal::ops::cuda::hopper {

__device__ inline unsigned read_turn(const unsigned* turn) {
  unsigned value = 0;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(turn) : "memory");
  return value;
}
__device__ inline void write_turn(unsigned* turn, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(turn), "r"(value) : "memory");
}

/// Orders accesses to global memory by ordinary instructions and by the copy engine.
__device__ inline void fence_global_proxies() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

/// Adds a block's sums to those of the keys behind, or begins with them.
__device__ inline void send_dq(float* to, const float* from, unsigned bytes, bool first) {
  if (first) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
                 "r"(shared_address(from)), "r"(bytes)
                 : "memory");
  } else {
    asm volatile(
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to),
        "r"(shared_address(from)), "r"(bytes)
        : "memory");
  }
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until the copies have read, and have written.
__device__ inline void wait_sent_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
__device__ inline void wait_sent() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/// The count of keys that have added to the dq of a step's tile of queries.
template <class P>
[[nodiscard]] __device__ inline unsigned* turn_of(const BackwardArgs<P>& args,
                                                  const BackwardStep& step) {
  return args.scratch.turn + std::int64_t{step.head} * args.query_tiles +
         step.first_token / P::kQueries;
}

/// Tells of each stage when all keys behind have added theirs to dq.
template <class P>
__device__ void watch_turns(BackwardShared<P>& shared, const BackwardArgs<P>& args) {
  for (typename P::Position at;; at.advance()) {
    shared.full[at.stage].wait(at.parity);
    const BackwardStep& step = shared.step[at.stage];
    if (step.stop) return;
    const auto mine = static_cast<unsigned>(step.turn);
    while (mine > 0 && read_turn(turn_of(args, step)) != mine) __nanosleep(20);
    shared.turn_come[at.stage].arrive();
    shared.empty[at.stage].arrive();
  }
}

/// Adds the block's share of dq in memory when its turn has come and tells the keys before. In the
/// final step of a tile of queries the consumers finish dq themselves.
template <class P>
__device__ void send_shares(BackwardShared<P>& shared, const BackwardArgs<P>& args) {
  unsigned parity = 0;
  for (typename P::Position at;; at.advance()) {
    shared.full[at.stage].wait(at.parity);
    const BackwardStep step = shared.step[at.stage];
    if (step.stop) return;
    shared.turn_come[at.stage].wait(at.parity);
    shared.empty[at.stage].arrive();
    if (step.empty || step.final) continue;
    unsigned* turn = turn_of(args, step);
    const std::int64_t pair = turn - args.scratch.turn;
    shared.dq_full.wait(parity);
    parity ^= 1U;
    fence_global_proxies();
    send_dq(args.scratch.dq + pair * P::kDqFloats, shared.dq, P::kDqBytes, step.turn == 0);
    wait_sent_read();
    shared.dq_empty.arrive();
    wait_sent();
    fence_global_proxies();
    write_turn(turn, static_cast<unsigned>(step.turn) + 1);
  }
}

}  // namespace shoal::ops::cuda::hopper
