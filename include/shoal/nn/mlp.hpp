#pragma once
#include "shoal/nn/linear.hpp"
#include "shoal/nn/pass.hpp"

namespace shoal::nn {

class ShardGroup;

struct MlpSaved {
  TensorView gate_up_TF;  ///< elem [T, 2F]
  TensorView h_TF;        ///< elem [T, F]; absent when recomputed
};
struct MlpDelta {
  ConstTensorView dy_TD;   ///< the caller's
  TensorView dgate_up_TF;  ///< elem [T, 2F]
};

/// Dense SwiGLU: y = (silu(x Wg) * (x Wu)) Wd with Wg and Wu in one matrix. Also the shared expert.
class Mlp {
 public:
  Mlp() = default;
  Mlp(const Weight& gate_up, const Weight& down, ShardGroup* group);

  [[nodiscard]] MlpSaved reserve(const Store& store, std::int64_t tokens,
                                 Recompute recompute) const;
  [[nodiscard]] MlpDelta reserve_delta(const Store& store, std::int64_t tokens) const;
  [[nodiscard]] std::int64_t width() const { return down_.inputs(); }  ///< F

  struct Forward {
    TensorView y_TD;  ///< out; absent: only what `saved` holds is computed
    ConstTensorView x_TD;
    ops::Accumulate accumulate = ops::Accumulate::overwrite;
  };
  void forward(const Exec& exec, const Forward& args, const MlpSaved& saved) const;
  struct BackwardInput {
    TensorView dx_TD;  ///< out
    ConstTensorView dy_TD;
    ops::Accumulate accumulate = ops::Accumulate::overwrite;
  };
  void backward_input(const Exec& exec, const BackwardInput& args, const MlpSaved& saved,
                      MlpDelta& delta) const;
  void backward_weight(const Exec& exec, const ConstTensorView& x_TD, const MlpSaved& saved,
                       const MlpDelta& delta, ops::Accumulate accumulate) const;

 private:
  Linear gate_up_, down_;
  DType elem_ = DType::f32;
  ShardGroup* group_ = nullptr;
};

}  // namespace shoal::nn
