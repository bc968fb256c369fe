#pragma once
#include <array>
#include <cstdint>
#include <map>

namespace shoal {

/// What a library's heuristic chose for a shape, remembered so that it is asked once and a run
/// never changes its mind. Key and value are words that only the asking op understands. Like the
/// Exec that owns it, for one thread.
class AlgorithmCache {
 public:
  using Key = std::array<std::int64_t, 12>;
  using Algorithm = std::array<std::uint64_t, 8>;

  /// The remembered choice, or that of `choose()`, which is then remembered.
  template <class Choose>
  const Algorithm& find_or(const Key& key, Choose choose) {
    const auto found = chosen_.find(key);
    return found != chosen_.end() ? found->second : chosen_.emplace(key, choose()).first->second;
  }

 private:
  std::map<Key, Algorithm> chosen_;
};

}  // namespace shoal
