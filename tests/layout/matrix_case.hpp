#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "layout/pairwise.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::test {

/// Factors of the matrix, in the order of a Row's values.
enum class Factor {
  layout,
  schedule,
  recompute,
  router,
  shared,
  tied,
  dynamic,
  precision,
  accumulation,
  zero,
  dropout,
  count
};
/// How many values each factor has.
[[nodiscard]] std::vector<int> matrix_levels();
/// Schedules belong to pipelines; takes partial rows.
[[nodiscard]] bool matrix_valid(const Row& row);
[[nodiscard]] int ranks_of(const Row& row);
/// The run that a row describes, over the corpus in `folder`.
[[nodiscard]] train::RunConfig matrix_config(const Row& row, const std::filesystem::path& folder,
                                             const std::string& device);
[[nodiscard]] std::string describe(const Row& row);

}  // namespace shoal::test
