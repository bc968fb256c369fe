#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

#include "shoal/comm/communicator.hpp"
#include "shoal/comm/environment.hpp"

namespace {

/// A rank that left a collective through a failed assertion leaves the others waiting: a test that
/// takes longer than this ends the job.
constexpr unsigned kHangSeconds = 300;

class HangAlarm : public ::testing::EmptyTestEventListener {
 public:
  void OnTestStart(const ::testing::TestInfo&) override { ::alarm(kHangSeconds); }
};

/// Failures of ranks other than 0, whose ordinary output is switched off.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_{rank} {}
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::cerr << "rank " << rank_ << ": " << (result.file_name() ? result.file_name() : "?") << ":"
              << result.line_number() << ": " << result.summary() << std::endl;
  }

 private:
  int rank_;
};

int run_all(int rank) {
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (rank != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter{rank});  // GoogleTest owns it
  }
  listeners.Append(new HangAlarm);  // GoogleTest owns it
  return RUN_ALL_TESTS();
}

}  // namespace

int main(int argc, char** argv) {
  ::alarm(kHangSeconds);
  ::testing::InitGoogleTest(&argc, argv);
  shoal::comm::Environment environment{argc, argv};
  try {
    const auto world = shoal::Communicator::world();
    return world.all_reduce_value(run_all(world.rank()), shoal::comm::ReduceOp::max);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    shoal::comm::Environment::abort(EXIT_FAILURE);
  }
}
