#pragma once
#include "shoal/nn/parameter.hpp"
#include "shoal/nn/pass.hpp"
#include "shoal/ops/common.hpp"

namespace shoal::nn {

struct ExpertsSaved {
  TensorView gate_up_RF;  ///< elem [R, 2F]
  TensorView h_RF;        ///< elem [R, F]; absent when recomputed
  TensorView out_RD;      ///< elem [R, D]: before the routing weights
};
struct ExpertsDelta {
  TensorView dout_RD;      ///< elem [R, D]
  TensorView dgate_up_RF;  ///< elem [R, 2F]
};

/// SwiGLU experts over rows sorted by expert; `offset_E1` is read on the device and rows beyond
/// offset[E] are left alone.
class Experts {
 public:
  Experts() = default;
  Experts(const Weight& gate_up, const Weight& down);  ///< [E, 2F, D], [E, D, F]

  [[nodiscard]] DType elem_dtype() const { return elem_; }
  [[nodiscard]] ExpertsSaved reserve(const Store& store, std::int64_t rows,
                                     Recompute recompute) const;
  [[nodiscard]] ExpertsDelta reserve_delta(const Store& store, std::int64_t rows) const;

  /// saved.out_RD must be there.
  void forward(const Exec& exec, const ConstTensorView& rows_RD, const ConstTensorView& offset_E1,
               const ExpertsSaved& saved) const;
  /// Reads delta.dout_RD.
  void backward_input(const Exec& exec, const TensorView& drows_RD,
                      const ConstTensorView& offset_E1, const ExpertsSaved& saved,
                      const ExpertsDelta& delta) const;
  struct BackwardWeight {
    ConstTensorView rows_RD;
    ConstTensorView offset_E1;
    ops::Accumulate accumulate = ops::Accumulate::overwrite;
  };
  void backward_weight(const Exec& exec, const BackwardWeight& args, const ExpertsSaved& saved,
                       const ExpertsDelta& delta) const;

 private:
  void activate(const Exec& exec, const TensorView& h_RF, const ConstTensorView& offset_E1,
                const TensorView& gate_up_RF) const;

  Weight gate_up_, down_;
  DType elem_ = DType::f32;
};

}  // namespace shoal::nn
