#pragma once
#include <functional>
#include <vector>

namespace shoal::test {

/// One value of each factor.
using Row = std::vector<int>;

/// Rows in which every pair of values of two factors occurs, as far as `valid` rows can hold it:
/// far fewer than the product. `levels` counts the values of each factor. Greedy and deterministic
/// (the idea of AETG, Cohen et al. 1997): each row starts with a pair that no earlier row has and
/// takes the values that bring the most new pairs. `valid` also sees partial rows (-1: no value
/// yet) and must accept those that can still become valid.
[[nodiscard]] std::vector<Row> pairwise(const std::vector<int>& levels,
                                        const std::function<bool(const Row&)>& valid);

}  // namespace shoal::test
