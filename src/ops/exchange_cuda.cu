#include "ops/cuda_common.cuh"
#include "shoal/ops/exchange.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;  // then each thread strides

struct Targets {
  std::int32_t* target_TP;
  std::int32_t* count_E;
  const std::int32_t* index_TK;
  std::int64_t T, P;
  int K, per_rank;
};

/// One thread for each (token, rank): writes need no order.
__global__ void __launch_bounds__(kThreads) target_kernel(Targets a) {
  for (std::int64_t i = thread_index(); i < a.T * a.P; i += thread_count()) {
    const std::int64_t t = i / a.P;
    const int p = static_cast<int>(i % a.P);
    std::int32_t target = -1;
    for (int k = 0; k < a.K; ++k) {
      const int e = a.index_TK[t * a.K + k];
      if (e >= 0 && e / a.per_rank == p) target = p;
    }
    a.target_TP[i] = target;
  }
}

__global__ void __launch_bounds__(kThreads) count_kernel(Targets a) {
  for (std::int64_t i = thread_index(); i < a.T * a.K; i += thread_count()) {
    const int e = a.index_TK[i];
    if (e >= 0) atomicAdd(&a.count_E[e], 1);  // integers: any order gives the same sum
  }
}

struct Pack {
  std::int32_t* choice_SC;
  std::int32_t* copy_TK;
  const std::int32_t* index_TK;
  const float* weight_TK;
  const std::int32_t* copy_TP;
  const std::int32_t* slot_S;
  std::int64_t S, slots;
  int K, P, per_rank;
};

__global__ void __launch_bounds__(kThreads) copy_of_slot_kernel(Pack a) {
  for (std::int64_t i = thread_index(); i < a.slots; i += thread_count()) {
    const int e = a.index_TK[i];
    a.copy_TK[i] = e < 0 ? -1 : a.copy_TP[i / a.K * a.P + e / a.per_rank];
  }
}

/// One thread for each slot of each copy.
__global__ void __launch_bounds__(kThreads) choice_kernel(Pack a) {
  for (std::int64_t i = thread_index(); i < a.S * a.K; i += thread_count()) {
    const std::int64_t s = i / a.K;
    const int k = static_cast<int>(i % a.K);
    const std::int64_t slot = std::int64_t{a.slot_S[s] / a.P} * a.K + k;
    const int local = a.index_TK[slot] - a.slot_S[s] % a.P * a.per_rank;
    const bool here = local >= 0 && local < a.per_rank;
    a.choice_SC[s * 2 * a.K + k] = here ? local : -1;
    a.choice_SC[(s * 2 + 1) * a.K + k] = __float_as_int(here ? a.weight_TK[slot] : 0.0F);
  }
}

__global__ void __launch_bounds__(kThreads)
    unpack_kernel(std::int32_t* expert_NK, float* weight_NK, const std::int32_t* choice_NC,
                  std::int64_t N, int K) {
  for (std::int64_t i = thread_index(); i < N * K; i += thread_count()) {
    const std::int64_t at = i / K * 2 * K + i % K;
    expert_NK[i] = choice_NC[at];
    weight_NK[i] = __int_as_float(choice_NC[at + K]);
  }
}

__global__ void __launch_bounds__(kThreads)
    drop_kernel(std::int32_t* kept_TK, const std::int32_t* index_TK, const std::int32_t* row_TK,
                std::int64_t slots) {
  for (std::int64_t i = thread_index(); i < slots; i += thread_count()) {
    kept_TK[i] = row_TK[i] < 0 ? -1 : index_TK[i];
  }
}

__global__ void __launch_bounds__(kThreads)
    gather_slots_kernel(float* y_TK, const float* x_SK, const std::int32_t* copy_TK,
                        std::int64_t slots, int K) {
  for (std::int64_t i = thread_index(); i < slots; i += thread_count()) {
    const std::int64_t copy = copy_TK[i];
    y_TK[i] = copy < 0 ? 0.0F : x_SK[copy * K + i % K];
  }
}

__global__ void raise_kernel(float* x, float value) {
  *x = fmaxf(*x, value);
}

}  // namespace

void exchange_targets(const Exec& exec, const ExchangeTargets& a) {
  const std::int64_t P = a.target_TP.dim(1);
  const Targets args{.target_TP = device_data<std::int32_t>(a.target_TP),
                     .count_E = device_data<std::int32_t>(a.count_E),
                     .index_TK = device_data<std::int32_t>(a.index_TK),
                     .T = a.index_TK.dim(0),
                     .P = P,
                     .K = static_cast<int>(a.index_TK.dim(1)),
                     .per_rank = static_cast<int>(a.count_E.dim(0) / P)};
  zero(exec, a.count_E);
  const auto stream = exec.cuda().stream;
  target_kernel<<<blocks_for(args.T * P, kThreads, kMaxBlocks), kThreads, 0, stream>>>(args);
  check_launch();
  count_kernel<<<blocks_for(args.T * args.K, kThreads, kMaxBlocks), kThreads, 0, stream>>>(args);
  check_launch();
}

void exchange_pack(const Exec& exec, const ExchangePack& a) {
  const Pack args{.choice_SC = device_data<std::int32_t>(a.choice_SC),
                  .copy_TK = device_data<std::int32_t>(a.copy_of_slot_TK),
                  .index_TK = device_data<std::int32_t>(a.index_TK),
                  .weight_TK = device_data<float>(a.weight_TK),
                  .copy_TP = device_data<std::int32_t>(a.copy_of_rank_TP),
                  .slot_S = device_data<std::int32_t>(a.slot_of_copy_S),
                  .S = a.choice_SC.dim(0),
                  .slots = a.index_TK.elements(),
                  .K = static_cast<int>(a.index_TK.dim(1)),
                  .P = static_cast<int>(a.copy_of_rank_TP.dim(1)),
                  .per_rank = static_cast<int>(a.experts_per_rank)};
  const auto stream = exec.cuda().stream;
  copy_of_slot_kernel<<<blocks_for(args.slots, kThreads, kMaxBlocks), kThreads, 0, stream>>>(args);
  check_launch();
  choice_kernel<<<blocks_for(args.S * args.K, kThreads, kMaxBlocks), kThreads, 0, stream>>>(args);
  check_launch();
}

void exchange_unpack(const Exec& exec, const ExchangeUnpack& a) {
  const std::int64_t N = a.expert_NK.dim(0), K = a.expert_NK.dim(1);
  unpack_kernel<<<blocks_for(N * K, kThreads, kMaxBlocks), kThreads, 0, exec.cuda().stream>>>(
      device_data<std::int32_t>(a.expert_NK), device_data<float>(a.weight_NK),
      device_data<std::int32_t>(a.choice_NC), N, static_cast<int>(K));
  check_launch();
}

void drop_slots(const Exec& exec, const DropSlots& a) {
  const std::int64_t slots = a.index_TK.elements();
  drop_kernel<<<blocks_for(slots, kThreads, kMaxBlocks), kThreads, 0, exec.cuda().stream>>>(
      device_data<std::int32_t>(a.kept_TK), device_data<std::int32_t>(a.index_TK),
      device_data<std::int32_t>(a.row_of_slot_TK), slots);
  check_launch();
}

void gather_slots(const Exec& exec, const GatherSlots& a) {
  const std::int64_t slots = a.y_TK.elements();
  gather_slots_kernel<<<blocks_for(slots, kThreads, kMaxBlocks), kThreads, 0, exec.cuda().stream>>>(
      device_data<float>(a.y_TK), device_data<float>(a.x_SK),
      device_data<std::int32_t>(a.copy_of_slot_TK), slots, static_cast<int>(a.y_TK.dim(1)));
  check_launch();
}

void raise_to(const Exec& exec, const TensorView& x, float value) {
  raise_kernel<<<1, 1, 0, exec.cuda().stream>>>(device_data<float>(x), value);
  check_launch();
}

}  // namespace shoal::ops::cuda
