#pragma once
#include <string>

#include "shoal/train/metrics.hpp"
#include "shoal/train/step.hpp"

namespace shoal::train {

/// Where a step's numbers lie in its totals, and what turns them into means.
class ResultReader {
 public:
  ResultReader(RunConfig config, const BatchShape& shape, const nn::ModelState& state);

  struct Numbers {
    double loss = 0.0;      ///< nats a target
    double aux_loss = 0.0;  ///< with its coefficient
    double z_loss = 0.0;
    double imbalance = 0.0;  ///< largest over layers of max / mean tokens of an expert; 0: no MoE
  };
  [[nodiscard]] Numbers numbers(const StepResult& result, std::int64_t targets) const;
  [[nodiscard]] RouterShape router_shape() const;
  [[nodiscard]] RouterRow router_row(const StepResult& result) const;

 private:
  struct Layer {
    std::size_t counts = 0;  ///< offset in the totals
    std::size_t sums = 0;
    bool has_bias = false;
  };
  [[nodiscard]] double sum_of(const StepResult& result, std::int64_t which) const;

  RunConfig config_;
  BatchShape shape_;
  std::vector<Layer> layers_;
  std::size_t loss_ = 0;
};

/// Peak arithmetic of one device in FLOP/s for MFU; 0: unknown.
[[nodiscard]] double peak_flops(const RunConfig& config, DeviceKind device);

}  // namespace shoal::train
