#include "layout/pairwise.hpp"

#include <cstddef>
#include <set>
#include <tuple>

namespace shoal::test {
namespace {

constexpr int kOpen = -1;                     // a factor without a value yet
using Pair = std::tuple<int, int, int, int>;  // factor, its value, a later factor, its value

class Cover {
 public:
  Cover(const std::vector<int>& levels, const std::function<bool(const Row&)>& valid)
      : levels_{levels}, valid_{valid} {
    const int n = size();
    for (int a = 0; a < n; ++a) {
      for (int b = a + 1; b < n; ++b) add_pairs(a, b);
    }
  }

  std::vector<Row> rows() {
    std::vector<Row> out;
    while (!open_.empty()) {
      const auto [a, x, b, y] = *open_.begin();
      Row row(levels_.size(), kOpen);
      row[index(a)] = x;
      row[index(b)] = y;
      if (!fill(row, 0)) {
        open_.erase(open_.begin());  // no valid row holds this pair
        continue;
      }
      remove_pairs(row);
      out.push_back(row);
    }
    return out;
  }

 private:
  [[nodiscard]] int size() const { return static_cast<int>(levels_.size()); }
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  void add_pairs(int a, int b) {
    for (int x = 0; x < levels_[index(a)]; ++x) {
      for (int y = 0; y < levels_[index(b)]; ++y) open_.insert({a, x, b, y});
    }
  }
  void remove_pairs(const Row& row) {
    for (int a = 0; a < size(); ++a) {
      for (int b = a + 1; b < size(); ++b) open_.erase({a, row[index(a)], b, row[index(b)]});
    }
  }
  /// Open pairs that value x of factor f makes with the values chosen so far.
  [[nodiscard]] int gain(const Row& row, int f, int x) const {
    int count = 0;
    for (int g = 0; g < size(); ++g) {
      if (g == f || row[index(g)] == kOpen) continue;
      const Pair pair = g < f ? Pair{g, row[index(g)], f, x} : Pair{f, x, g, row[index(g)]};
      count += static_cast<int>(open_.count(pair));
    }
    return count;
  }
  /// Values of factor f, the most gainful first.
  [[nodiscard]] std::vector<int> order(const Row& row, int f) const {
    std::vector<int> out;
    for (int want = size(); want >= 0; --want) {
      for (int x = 0; x < levels_[index(f)]; ++x) {
        if (gain(row, f, x) == want) out.push_back(x);
      }
    }
    return out;
  }
  /// Fills the open factors from `f` on; goes back where no valid row comes out.
  bool fill(Row& row, int f) {
    if (!valid_(row)) return false;
    if (f == size()) return true;
    if (row[index(f)] != kOpen) return fill(row, f + 1);
    for (const int x : order(row, f)) {
      row[index(f)] = x;
      if (fill(row, f + 1)) return true;
    }
    row[index(f)] = kOpen;
    return false;
  }

  std::vector<int> levels_;
  std::function<bool(const Row&)> valid_;
  std::set<Pair> open_;
};

}  // namespace

std::vector<Row> pairwise(const std::vector<int>& levels,
                          const std::function<bool(const Row&)>& valid) {
  return Cover{levels, valid}.rows();
}

}  // namespace shoal::test
