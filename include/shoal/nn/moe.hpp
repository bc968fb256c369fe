#pragma once
#include <optional>

#include "shoal/nn/experts.hpp"
#include "shoal/nn/mlp.hpp"
#include "shoal/nn/router.hpp"
#include "shoal/nn/token_dispatcher.hpp"

namespace shoal::nn {

struct MoeSaved {
  RouterSaved router;
  DispatchPlan plan;
  TensorView rows_RD;  ///< elem: gathered tokens; absent when recomputed
  ExpertsSaved experts;
  MlpSaved shared;
};
struct MoeDelta {
  RouterDelta router;
  ExpertsDelta experts;
  MlpDelta shared;
};

/// Router, dispatcher, experts and shared experts, on the rank's part of the tokens. The shared
/// experts are split over the tensor parallel group, the routed ones are not.
class Moe {
 public:
  struct Parts {
    Router router;
    Experts experts;
    std::optional<Mlp> shared;
    TokenDispatcher* dispatcher = nullptr;
    RouterLedger ledger;
  };
  explicit Moe(const Parts& parts) : parts_{parts} {}

  [[nodiscard]] MoeSaved reserve(const Store& store, const Batch& batch, std::int64_t tokens,
                                 Recompute recompute) const;
  [[nodiscard]] MoeDelta reserve_delta(const Store& store, std::int64_t tokens) const;

  struct Forward {
    TensorView y_TD;  ///< out; absent: only what `saved` holds is computed
    ConstTensorView x_TD;
    ConstTensorView add_TD;  ///< optional, added to y
  };
  void forward(const Exec& exec, const Pass& pass, const Forward& args,
               const MoeSaved& saved) const;
  struct BackwardInput {
    TensorView dx_TD;  ///< out
    ConstTensorView dy_TD;
  };
  void backward_input(const Exec& exec, const Pass& pass, const BackwardInput& args,
                      const MoeSaved& saved, MoeDelta& delta) const;
  void backward_weight(const Exec& exec, const ConstTensorView& x_TD, const MoeSaved& saved,
                       const MoeDelta& delta, ops::Accumulate accumulate) const;

 private:
  struct BackwardExperts {
    TensorView drows_RD;    ///< out elem
    TensorView dweight_TK;  ///< out f32
    ConstTensorView dy_TD;
  };
  void backward_experts(const Exec& exec, const BackwardExperts& args, const MoeSaved& saved,
                        const MoeDelta& delta) const;
  void forward_shared(const Exec& exec, const Forward& args, const MlpSaved& saved) const;
  void route(const Exec& exec, const Pass& pass, const ConstTensorView& x_TD,
             const MoeSaved& saved) const;
  [[nodiscard]] std::int64_t max_rows(std::int64_t tokens) const;
  [[nodiscard]] MoeSaved complete(const Exec& exec, const Pass& pass, const MoeSaved& saved,
                                  std::int64_t tokens) const;

  Parts parts_;
};

}  // namespace shoal::nn
