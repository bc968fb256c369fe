#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Order of routed rows: sorted by expert, within an expert by token (stable, hence deterministic).
/// Slot (t, k) is numbered t*K + k.
struct RoutePlan {
  TensorView count_E;         ///< out i32: rows of each expert (what the capacity leaves)
  TensorView offset_E1;       ///< out i32 [E+1]: first row of each expert; offset[E] = R
  TensorView row_of_slot_TK;  ///< out i32 [T, K]: row that slot (t, k) went to
  TensorView slot_of_row_R;   ///< out i32 [R]: its inverse; R = T*K, or with a capacity at least
                              ///< the smaller of T*K and E * capacity
  ConstTensorView index_TK;   ///< i32, expert of each slot; -1: none, the slot gets row -1
  std::int64_t capacity = 0;  ///< rows an expert may take, 0: dropless. Slots beyond it (in token
                              ///< order) get row -1, and rows from offset[E] on hold slot -1.
  bool sparse = false;        ///< many slots hold -1: the caller vouches that R rows suffice
};
void route_plan(const Exec& exec, const RoutePlan& args);

/// rows[r] = x[slot_of_row[r] / K]; rows with slot -1 are left alone.
struct GatherRows {
  TensorView rows_RD;                ///< out elem
  ConstTensorView x_TD;              ///< elem
  ConstTensorView slot_of_row_R;     ///< i32
  std::int64_t slots_per_token = 1;  ///< K
};
void gather_rows(const Exec& exec, const GatherRows& args);

/// rows[row_of_slot[t,k]] = x[t]; row -1: nothing; other rows are left alone. The same rows as
/// gather_rows() of the inverse order, with each token read once.
struct ScatterRows {
  TensorView rows_RD;              ///< out elem
  ConstTensorView x_TD;            ///< elem
  ConstTensorView row_of_slot_TK;  ///< i32, different rows
};
void scatter_rows(const Exec& exec, const ScatterRows& args);

/// y[t] = add[t] + sum_k weight[t,k] * rows[row_of_slot[t,k]], summed over k in order in fp32;
/// row -1 contributes nothing. Without weight all weights are one (backward of gather_rows).
struct CombineRows {
  TensorView y_TD;                 ///< out elem
  ConstTensorView rows_RD;         ///< elem
  ConstTensorView row_of_slot_TK;  ///< i32
  ConstTensorView weight_TK;       ///< f32, optional
  ConstTensorView add_TD;          ///< elem, optional; may be y
};
void combine_rows(const Exec& exec, const CombineRows& args);

namespace cpu {
void route_plan(const Exec& exec, const RoutePlan& args);
void gather_rows(const Exec& exec, const GatherRows& args);
void scatter_rows(const Exec& exec, const ScatterRows& args);
void combine_rows(const Exec& exec, const CombineRows& args);
}  // namespace cpu
namespace cuda {
void route_plan(const Exec& exec, const RoutePlan& args);
void gather_rows(const Exec& exec, const GatherRows& args);
void scatter_rows(const Exec& exec, const ScatterRows& args);
void combine_rows(const Exec& exec, const CombineRows& args);
}  // namespace cuda
}  // namespace shoal::ops
