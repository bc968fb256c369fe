#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "shoal/device/exec.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/optimizer.hpp"
#include "shoal/train/batch_block.hpp"
#include "shoal/train/kernel_benchmark.hpp"
#include "train/random_moe.hpp"

namespace shoal::train {

/// Times one kernel after another; tensors live as long as the case that needs them. On a dry Exec
/// each is called once, to count memory. T, D, ... are the sizes of DESIGN's letters.
class KernelBench {
 public:
  KernelBench(const Exec& exec, const RunConfig& config);

  void dense();      ///< projections of attention, all three products
  void experts();    ///< grouped products, and the rows' way to them and back
  void moe_layer();  ///< router to combined rows, forward and backward
  void attention();  ///< head dims 64, 128 and the model's; its sequence and longer ones
  void head_norm();  ///< norm and rotary positions of query and key heads
  void norm();       ///< with the residual
  void router();     ///< logits to the order of rows, and back
  void loss_head();
  void optimizer();  ///< norm, clip, update and working weights

  [[nodiscard]] const std::vector<KernelFigure>& figures() const { return figures_; }

 private:
  struct Work {
    double flops = 0.0, bytes = 0.0, parameters = 0.0;
  };
  struct Linear {
    const char* name;
    std::int64_t outputs, inputs;
  };
  struct AttentionShape {
    std::int64_t sequence, head_dim;
  };
  struct ExpertOperands;
  void time(const std::string& kernel, const io::Json& shape, const Work& work,
            const std::function<void()>& body);
  void linear(const Linear& shape);
  void attention(const AttentionShape& shape);
  void experts_forward(const ExpertOperands& x);
  void experts_backward(const ExpertOperands& x);
  void experts_weights(const ExpertOperands& x, ops::Accumulate accumulate);
  [[nodiscard]] ops::OptimizerUpdate random_update(const TensorView& state, std::int64_t N);
  void write_sequence_starts(const TensorView& start_T, std::int64_t sequence) const;
  /// Normal values, another stream for each tensor.
  [[nodiscard]] TensorView random(const Shape& shape, DType dtype, float std = 1.0F);
  [[nodiscard]] TensorView random(const Shape& shape) { return random(shape, elem_); }
  [[nodiscard]] TensorView ones(const Shape& shape) const;
  [[nodiscard]] double bytes_of(std::int64_t elements) const {
    return static_cast<double>(elements * size_of(elem_));
  }
  /// {"T": .., "D": .., "F": .., "E": .., "K": ..} of the experts.
  [[nodiscard]] io::Json expert_sizes() const;
  [[nodiscard]] std::int64_t tokens() const { return shape_.micro_tokens(); }

  const Exec& exec_;
  RunConfig config_;
  DType elem_;
  BatchShape shape_;
  BatchBlock block_;
  std::unique_ptr<RandomMoe> moe_;  ///< null in a dense model
  std::uint32_t streams_ = 0;
  std::vector<KernelFigure> figures_;
};

}  // namespace shoal::train
