#include "shoal/base/rank_grid.hpp"

#include <utility>

#include "shoal/base/error.hpp"

namespace shoal {

RankGrid::RankGrid(std::vector<Axis> axes) : axes_{std::move(axes)} {
  for (const Axis& axis : axes_) {
    require(axis.size >= 1, "layout: " + axis.name + " must be at least 1");
  }
}

int RankGrid::size() const {
  int product = 1;
  for (const Axis& axis : axes_) product *= axis.size;
  return product;
}

int RankGrid::size(std::string_view name) const {
  for (const Axis& axis : axes_) {
    if (axis.name == name) return axis.size;
  }
  return 1;
}

int RankGrid::stride(std::string_view name) const {
  int product = 1;
  for (std::size_t i = axes_.size(); i-- > 0;) {
    if (axes_[i].name == name) return product;
    product *= axes_[i].size;
  }
  return product;
}

int RankGrid::coord(int rank, std::string_view name) const {
  return rank / stride(name) % size(name);
}

int RankGrid::color(int rank, std::string_view name) const {
  return rank - coord(rank, name) * stride(name);
}

std::string RankGrid::describe() const {
  std::string text;
  for (const Axis& axis : axes_) {
    text += (text.empty() ? "" : " ") + axis.name + "=" + std::to_string(axis.size);
  }
  return text;
}

}  // namespace shoal
