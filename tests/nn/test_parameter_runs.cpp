#include "shoal/nn/parameter_runs.hpp"

#include <gtest/gtest.h>

#include <map>

namespace shoal::nn {
namespace {

TEST(ParameterRuns, StorageRunsOfFusedStorageCoverEachElementOnce) {
  const StorageMap map{.offset = 100, .parts = 3, .stride = 20, .inner = 8};
  std::map<std::int64_t, std::int64_t> where;  // local -> offset
  for (const StorageRun& s : storage_runs(map, 5, 14)) {
    for (std::int64_t i = 0; i < s.count; ++i) where[s.local + i] = s.offset + i;
  }
  ASSERT_EQ(where.size(), 14U);
  for (const auto& [local, offset] : where) {
    EXPECT_EQ(offset, 100 + local / 8 * 20 + local % 8);
  }
}

TEST(ParameterRuns, PlainStorageIsOneRun) {
  const StorageMap map{.offset = 7, .parts = 4, .stride = 6, .inner = 6};
  EXPECT_EQ(storage_runs(map, 0, 24).size(), 1U);
}

}  // namespace
}  // namespace shoal::nn
