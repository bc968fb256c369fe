#pragma once
#include "shoal/ops/common.hpp"

// What an exchange of tokens between P ranks does besides ops/permute.hpp. Experts lie in
// contiguous blocks of E / P over the ranks. A token travels as one copy to each rank that holds at
// least one of its experts; S copies leave, N arrive. A slot with expert -1 goes nowhere.
namespace shoal::ops {

/// kept[t,k] = index[t,k], or -1 where a capacity left the slot without a row.
struct DropSlots {
  TensorView kept_TK;              ///< out i32; may be index
  ConstTensorView index_TK;        ///< i32
  ConstTensorView row_of_slot_TK;  ///< i32, of route_plan
};
void drop_slots(const Exec& exec, const DropSlots& args);

/// target[t,p] = p where rank p holds an expert of token t, else -1. As the index of route_plan it
/// sorts the copies by rank.
struct ExchangeTargets {
  TensorView target_TP;      ///< out i32
  TensorView count_E;        ///< out i32: slots of each expert
  ConstTensorView index_TK;  ///< i32
};
void exchange_targets(const Exec& exec, const ExchangeTargets& args);

/// What travels with the copies: for each slot of the token its expert on the target rank, counted
/// from that rank's first (-1: not there), then the bits of its routing weight (0: not there).
struct ExchangePack {
  TensorView choice_SC;             ///< out i32 [S, 2K]
  TensorView copy_of_slot_TK;       ///< out i32: copy that carries slot (t, k), -1: cut off
  ConstTensorView index_TK;         ///< i32
  ConstTensorView weight_TK;        ///< f32
  ConstTensorView copy_of_rank_TP;  ///< i32: copy of token t for rank p, -1: none
  ConstTensorView slot_of_copy_S;   ///< i32 [S]: its inverse, numbered t*P + p
  std::int64_t experts_per_rank = 1;
};
void exchange_pack(const Exec& exec, const ExchangePack& args);

/// The two halves of the choices that arrived.
struct ExchangeUnpack {
  TensorView expert_NK;       ///< out i32
  TensorView weight_NK;       ///< out f32
  ConstTensorView choice_NC;  ///< i32 [N, 2K]
};
void exchange_unpack(const Exec& exec, const ExchangeUnpack& args);

/// y[t,k] = x[copy_of_slot[t,k], k]; 0 for copy -1.
struct GatherSlots {
  TensorView y_TK;                  ///< out f32
  ConstTensorView x_SK;             ///< f32
  ConstTensorView copy_of_slot_TK;  ///< i32
};
void gather_slots(const Exec& exec, const GatherSlots& args);

/// x[0] = max(x[0], value), f32 [1].
void raise_to(const Exec& exec, const TensorView& x, float value);

namespace cpu {
void drop_slots(const Exec& exec, const DropSlots& args);
void exchange_targets(const Exec& exec, const ExchangeTargets& args);
void exchange_pack(const Exec& exec, const ExchangePack& args);
void exchange_unpack(const Exec& exec, const ExchangeUnpack& args);
void gather_slots(const Exec& exec, const GatherSlots& args);
void raise_to(const Exec& exec, const TensorView& x, float value);
}  // namespace cpu
namespace cuda {
void drop_slots(const Exec& exec, const DropSlots& args);
void exchange_targets(const Exec& exec, const ExchangeTargets& args);
void exchange_pack(const Exec& exec, const ExchangePack& args);
void exchange_unpack(const Exec& exec, const ExchangeUnpack& args);
void gather_slots(const Exec& exec, const GatherSlots& args);
void raise_to(const Exec& exec, const TensorView& x, float value);
}  // namespace cuda
}  // namespace shoal::ops
