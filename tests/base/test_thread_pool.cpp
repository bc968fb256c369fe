#include "shoal/base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace shoal {
namespace {

TEST(ThreadPool, ReturnsResultsAndCarriesExceptions) {
  ThreadPool pool{3};
  auto value = pool.submit([] { return 42; });
  auto failure = pool.submit([]() -> int { throw std::runtime_error{"broken"}; });
  EXPECT_EQ(value.get(), 42);
  EXPECT_THROW(failure.get(), std::runtime_error);
}

}  // namespace
}  // namespace shoal
