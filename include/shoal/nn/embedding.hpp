#pragma once
#include "shoal/nn/parameter.hpp"
#include "shoal/nn/pass.hpp"
#include "shoal/ops/common.hpp"

namespace shoal::nn {

class ShardGroup;

/// Rows of a table, with dropout. Where a tensor parallel group shares the table (rank r holds rows
/// [r V / size, (r + 1) V / size)), each rank looks up its rows for all tokens and the sum is
/// scattered; x and dx are the rank's part of the tokens.
class Embedding {
 public:
  Embedding() = default;
  Embedding(const Weight& table, double dropout, ShardGroup* group)
      : table_{table}, dropout_{static_cast<float>(dropout)}, group_{group} {}
  void forward(const Exec& exec, const Pass& pass, const TensorView& x_TD) const;
  void backward_weight(const Exec& exec, const Pass& pass, const ConstTensorView& dx_TD,
                       ops::Accumulate accumulate) const;

 private:
  void drop(const Exec& exec, const Pass& pass, const TensorView& y_TD,
            const ConstTensorView& x_TD) const;
  [[nodiscard]] std::int64_t first_id() const;

  Weight table_;
  float dropout_ = 0.0F;
  ShardGroup* group_ = nullptr;
};

}  // namespace shoal::nn
