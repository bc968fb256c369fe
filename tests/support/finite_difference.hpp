#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace shoal::test {

/// sum_i weight_i * value_i in double: the scalar loss whose gradient in `value` is `weight`.
[[nodiscard]] inline double weighted_sum(const std::vector<float>& value,
                                         const std::vector<float>& weight) {
  double sum = 0.0;
  for (std::size_t i = 0; i < value.size(); ++i) sum += double{value[i]} * weight[i];
  return sum;
}

struct DifferenceOptions {
  float step = 0x1p-6F;     ///< h; the formula's own error is of order h^4
  double tolerance = 1e-3;  ///< of the larger of the gradient's element and root mean square
};

/// Compares a gradient with the fourth-order central difference of `loss` in each element of `at`:
/// (8 (L(x+h) - L(x-h)) - (L(x+2h) - L(x-2h))) / 12h.
/// `loss` takes all values (std::vector<float>) and returns a double: run the op in fp32, then sum
/// its outputs in double (weighted_sum). An untrue element is named with both values.
template <class Loss>
::testing::AssertionResult gradient_matches(Loss loss, const std::vector<float>& at,
                                            const std::vector<float>& gradient,
                                            DifferenceOptions options = {}) {
  if (at.size() != gradient.size()) {
    return ::testing::AssertionFailure()
           << gradient.size() << " gradients for " << at.size() << " values";
  }
  double square = 0.0;
  for (const float g : gradient) square += double{g} * g;
  const double rms = std::sqrt(square / std::max<double>(1.0, static_cast<double>(at.size())));
  for (std::size_t i = 0; i < at.size(); ++i) {
    const auto shifted = [&](float shift) {
      std::vector<float> x = at;
      x[i] += shift;
      return loss(x);
    };
    const float h = options.step;
    const double difference =
        (8.0 * (shifted(h) - shifted(-h)) - (shifted(2 * h) - shifted(-2 * h))) / (12.0 * h);
    const double error = std::abs(difference - gradient[i]);
    if (!(error <= options.tolerance * std::max({std::abs(difference), rms, 1e-6}))) {
      return ::testing::AssertionFailure()
             << "element " << i << ": gradient " << gradient[i] << ", difference " << difference;
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace shoal::test
