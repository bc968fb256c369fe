#pragma once
#include "shoal/nn/parameter.hpp"
#include "shoal/nn/pass.hpp"
#include "shoal/ops/common.hpp"

namespace shoal::nn {

/// The hidden rows and the results are not kept: the backward pass makes the one again and does
/// without the other (ops::RoutedSwigluBackward).
struct ExpertsSaved {
  TensorView gate_up_RF;  ///< elem [R, 2F]
};
struct ExpertsDelta {
  TensorView dout_RD;      ///< elem [R, D]: dy of each row's token, before the routing weight
  TensorView dgate_up_RF;  ///< elem [R, 2F]
  TensorView h_RF;         ///< elem [R, F]: hidden rows times their routing weights
};

/// SwiGLU experts over rows sorted by expert; `offset_E1` is read on the device and rows beyond
/// offset[E] are left alone.
class Experts {
 public:
  Experts() = default;
  Experts(const Weight& gate_up, const Weight& down);  ///< [E, 2F, D], [E, D, F]

  [[nodiscard]] DType elem_dtype() const { return elem_; }
  [[nodiscard]] std::int64_t hidden() const { return down_.value.dim(1); }
  [[nodiscard]] ExpertsSaved reserve(const Store& store, std::int64_t rows) const;
  [[nodiscard]] ExpertsDelta reserve_delta(const Store& store, std::int64_t rows) const;

  struct Forward {
    TensorView out_RD;  ///< out elem: before the routing weights; absent: only `saved` is computed
    ConstTensorView rows_RD;
    ConstTensorView offset_E1;
  };
  void forward(const Exec& exec, const Forward& args, const ExpertsSaved& saved) const;
  struct BackwardInput {
    TensorView drows_RD;   ///< out elem
    TensorView dweight_R;  ///< out f32: of the routing weights
    ConstTensorView weight_R;
    ConstTensorView offset_E1;
  };
  /// Reads delta.dout_RD.
  void backward_input(const Exec& exec, const BackwardInput& args, const ExpertsSaved& saved,
                      const ExpertsDelta& delta) const;
  struct BackwardWeight {
    ConstTensorView rows_RD;
    ConstTensorView offset_E1;
    ops::Accumulate accumulate = ops::Accumulate::overwrite;
  };
  void backward_weight(const Exec& exec, const BackwardWeight& args,
                       const ExpertsDelta& delta) const;

 private:
  Weight gate_up_, down_;
  DType elem_ = DType::f32;
};

}  // namespace shoal::nn
