#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "shoal/base/error.hpp"

namespace shoal {

/// Up to five dimensions, row-major, slowest first.
class Shape {
 public:
  static constexpr int kMaxRank = 5;
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<std::int64_t> dims) {
    for (const std::int64_t d : dims) push_back(d);
  }
  constexpr void push_back(std::int64_t d) { dims_[static_cast<std::size_t>(rank_++)] = d; }
  [[nodiscard]] constexpr int rank() const { return rank_; }
  [[nodiscard]] constexpr std::int64_t operator[](int i) const {
    return dims_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] constexpr std::int64_t elements() const {
    std::int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= (*this)[i];
    return product;
  }
  [[nodiscard]] constexpr std::int64_t back() const { return (*this)[rank_ - 1]; }
  /// Product of all leading dimensions: how many rows of back() elements.
  [[nodiscard]] constexpr std::int64_t rows() const {
    return rank_ == 0 || back() == 0 ? 1 : elements() / back();
  }
  constexpr bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

[[nodiscard]] std::string to_string(const Shape& shape);  ///< "[8, 128]"

}  // namespace shoal
