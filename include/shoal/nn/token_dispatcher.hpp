#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "shoal/tensor/view.hpp"

namespace shoal::nn {

/// Copies of tokens that travel between the ranks of one exchange, on the host.
struct ExchangeCounts {
  std::vector<std::int64_t> send, recv;  ///< one a rank, the own one included
  std::int64_t sent = 0, received = 0;   ///< their sums
  std::int64_t largest = 0;              ///< between any two different ranks
};

/// What an exchange over P ranks adds to a plan. A token travels once to each rank that holds at
/// least one of its experts; N copies can arrive here.
struct DispatchExchange {
  TensorView copy_of_rank_TP;  ///< i32: outgoing copy of token t for rank p, -1: none
  TensorView slot_of_copy_S;   ///< i32 [T*P]: its inverse, numbered t*P + p
  TensorView copy_of_slot_TK;  ///< i32: outgoing copy that carries slot (t, k)
  TensorView expert_NK;        ///< i32: experts here that an arrived copy chose, -1: elsewhere
  TensorView weight_NK;        ///< f32: their routing weights
  std::shared_ptr<ExchangeCounts> counts;  ///< filled by plan(), shared by copies of the plan
};

/// Where the rows of one MoE layer and micro-batch went; the caller owns it from dispatch to the
/// end of backward. With an exchange the tokens of row_of_slot_TK and slot_of_row_R are the copies
/// that arrived here, in the order of their ranks.
struct DispatchPlan {
  TensorView count_E;         ///< i32: rows this rank's tokens sent to each expert
  TensorView row_of_slot_TK;  ///< i32: row of slot (t, k), -1 when dropped
  TensorView slot_of_row_R;   ///< i32: its inverse
  TensorView offset_E1;       ///< i32: first row of each expert that lives here
  DispatchExchange exchange;  ///< empty where all experts live here
  /// i32 [1]: rows in use, on the device.
  [[nodiscard]] TensorView rows_limit() const { return offset_E1.rows(offset_E1.dim(0) - 1, 1); }
};

/// The choice of the router.
struct DispatchRouting {
  ConstTensorView index_TK;   ///< i32
  ConstTensorView weight_TK;  ///< f32, the one that combine() gets; only an exchange reads it
};

/// Independent work that runs once while rows are under way; may be empty.
using Overlap = std::function<void()>;

struct DispatchForward {
  TensorView rows_RD;  ///< out elem
  ConstTensorView x_TD;
  Overlap overlap = {};
};

struct DispatchCombine {
  TensorView y_TD;            ///< out elem
  ConstTensorView rows_RD;    ///< elem
  ConstTensorView weight_TK;  ///< f32
  ConstTensorView add_TD;     ///< elem, optional; may be y
};

struct DispatchCombineBackward {
  TensorView drows_RD;  ///< out elem: dy of the row's token, before the routing weight
  TensorView weight_R;  ///< out f32: the routing weight of the row
  ConstTensorView dy_TD;
  ConstTensorView weight_TK;
};

struct DispatchWeightBackward {
  TensorView dweight_TK;  ///< out f32, 0 where no row was
  ConstTensorView dweight_R;
};

struct DispatchBackward {
  TensorView dx_TD;  ///< out elem; not the same memory as add_TD
  ConstTensorView drows_RD;
  ConstTensorView add_TD;  ///< elem, optional: added to dx
  Overlap overlap = {};    ///< may write add
};

/// Brings tokens to the experts that they chose and results back. The seam of expert parallelism:
/// the local one permutes rows, the one of `parallel` exchanges them between ranks.
class TokenDispatcher {
 public:
  virtual ~TokenDispatcher() = default;
  /// Most rows that can arrive here for `tokens` tokens with `slots` experts each.
  [[nodiscard]] virtual std::int64_t max_rows(std::int64_t tokens, std::int64_t slots) const = 0;
  /// Memory of a plan from `store`.
  [[nodiscard]] virtual DispatchPlan reserve(const Store& store, std::int64_t tokens,
                                             std::int64_t slots) const = 0;
  virtual void plan(const Exec& exec, const DispatchPlan& plan, const DispatchRouting& routing) = 0;
  /// rows = x of the tokens sent here, sorted by expert; rows beyond rows_limit() are left alone.
  virtual void dispatch(const Exec& exec, const DispatchForward& args,
                        const DispatchPlan& plan) = 0;
  /// y_t = add_t + sum_k weight_tk * row of slot (t, k).
  virtual void combine(const Exec& exec, const DispatchCombine& args, const DispatchPlan& plan) = 0;
  virtual void combine_backward(const Exec& exec, const DispatchCombineBackward& args,
                                const DispatchPlan& plan) = 0;
  /// The gradient of each row's weight goes back to the slot of its token.
  virtual void weight_backward(const Exec& exec, const DispatchWeightBackward& args,
                               const DispatchPlan& plan) = 0;
  /// dx_t = add_t + sum_k drows of slot (t, k).
  virtual void dispatch_backward(const Exec& exec, const DispatchBackward& args,
                                 const DispatchPlan& plan) = 0;
};

/// Rows that an expert takes at most, the first in token order, of `slots` routed ones:
/// ceil(factor * slots / experts), at least one. Factor 0: dropless, given as 0.
[[nodiscard]] std::int64_t expert_capacity(double factor, std::int64_t slots, std::int64_t experts);

/// All experts live here.
class LocalDispatcher final : public TokenDispatcher {
 public:
  /// `capacity_factor` as in expert_capacity().
  explicit LocalDispatcher(std::int64_t experts, double capacity_factor = 0.0)
      : experts_{experts}, capacity_factor_{capacity_factor} {}
  [[nodiscard]] std::int64_t max_rows(std::int64_t tokens, std::int64_t slots) const override {
    return tokens * slots;
  }
  [[nodiscard]] DispatchPlan reserve(const Store& store, std::int64_t tokens,
                                     std::int64_t slots) const override;
  void plan(const Exec& exec, const DispatchPlan& plan, const DispatchRouting& routing) override;
  void dispatch(const Exec& exec, const DispatchForward& args, const DispatchPlan& plan) override;
  void combine(const Exec& exec, const DispatchCombine& args, const DispatchPlan& plan) override;
  void combine_backward(const Exec& exec, const DispatchCombineBackward& args,
                        const DispatchPlan& plan) override;
  void weight_backward(const Exec& exec, const DispatchWeightBackward& args,
                       const DispatchPlan& plan) override;
  void dispatch_backward(const Exec& exec, const DispatchBackward& args,
                         const DispatchPlan& plan) override;

 private:
  std::int64_t experts_;
  double capacity_factor_;
};

}  // namespace shoal::nn
