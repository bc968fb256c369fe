#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/nn/model_config.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/tensor/shape.hpp"

namespace shoal::train {

/// One tensor of a Hugging Face folder and the rows of our parameter that it holds.
struct ExchangeTensor {
  std::string name;       ///< "model.layers.3.mlp.experts.0.gate_proj.weight"
  std::string parameter;  ///< ours, "layers.3.mlp.experts.gate_proj"; of a bias: its state's name
  Shape shape;
  std::int64_t first_row = 0;   ///< in the parameter, all dimensions but the last flattened
  bool is_router_bias = false;  ///< state, not a parameter; always fp32
  [[nodiscard]] std::int64_t rows() const { return shape.rows(); }
  [[nodiscard]] std::int64_t row_elements() const { return shape.back(); }
};

/// All tensors of a model's folder, in the order of our parameters.
[[nodiscard]] std::vector<ExchangeTensor> exchange_tensors(const nn::ModelConfig& model,
                                                           const nn::ParameterLayout& layout);

}  // namespace shoal::train
