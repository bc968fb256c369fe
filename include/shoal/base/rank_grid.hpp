#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

/// Ranks laid out row-major over named axes, slowest first: peers along the last axis are
/// neighbouring ranks. Dense view: {pp, dp, cp, tp}; expert view of the same ranks: {pp, edp, ep}.
/// Pure arithmetic: no communication.
class RankGrid {
 public:
  struct Axis {
    std::string name;
    int size;
  };

  /// Throws InputError when an axis has a size below one.
  explicit RankGrid(std::vector<Axis> axes);

  [[nodiscard]] int size() const;                       ///< product of all axes
  [[nodiscard]] int size(std::string_view name) const;  ///< 1 for an axis that is not there
  [[nodiscard]] int coord(int rank, std::string_view name) const;
  /// Equal for exactly the ranks that differ only along `name`: the colour for a communicator
  /// split.
  [[nodiscard]] int color(int rank, std::string_view name) const;
  [[nodiscard]] std::string describe() const;  ///< "pp=1 dp=4 cp=1 tp=2"
  [[nodiscard]] const std::vector<Axis>& axes() const { return axes_; }

 private:
  [[nodiscard]] int stride(std::string_view name) const;  ///< product of the faster axes
  std::vector<Axis> axes_;
};

}  // namespace shoal
