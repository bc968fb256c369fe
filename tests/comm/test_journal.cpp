#include "shoal/comm/journal.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "shoal/comm/communicator.hpp"
#include "shoal/comm/watchdog.hpp"

namespace shoal::comm {
namespace {

TEST(Journal, KeepsTheLastOperationsInOrder) {
  Journal journal{3};
  for (int i = 0; i < 5; ++i) journal.end(journal.begin(Operation::barrier, "dp", i));
  const auto entries = journal.entries();
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries.front().sequence, 2);
  EXPECT_EQ(entries.back().bytes, 4);
  EXPECT_FALSE(journal.in_flight());
}

TEST(Journal, CountsBytesByOperation) {
  const auto self = Communicator::self();
  std::vector<float> data(10);
  self.all_reduce(data, ReduceOp::sum);
  self.all_reduce(data, ReduceOp::max);
  self.broadcast(data, 0);
  EXPECT_EQ(self.journal()->traffic(Operation::all_reduce).calls, 2);
  EXPECT_EQ(self.journal()->traffic(Operation::all_reduce).bytes, 80);
  EXPECT_EQ(self.journal()->traffic(Operation::broadcast).bytes, 40);
}

TEST(WaitLog, CountsNamedWaits) {
  WaitLog waits;
  waits.add("expert counts", 0.25);
  waits.add("expert counts", 0.5);
  EXPECT_EQ(waits.totals().at("expert counts").count, 2);
  EXPECT_DOUBLE_EQ(waits.totals().at("expert counts").seconds, 0.75);
  EXPECT_EQ(waits.describe(), "  expert counts: 2 waits, 0.750 s\n");
}

TEST(Watchdog, NamesTheOperationThatHangs) {
  const auto journal = std::make_shared<Journal>(8);
  std::string printed;
  std::atomic<int> barks{0};
  {
    journal->begin(Operation::all_gather, "tp", 64);
    const Watchdog dog{journal,
                       {.timeout_s = 0.02,
                        .poll_s = 0.005,
                        .on_timeout =
                            [&](const TraceEntry& e) {
                              if (e.op == Operation::all_gather) ++barks;
                            },
                        .print = [&](std::string_view text) { printed += text; }}};
    for (int i = 0; i < 400 && barks == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
  }
  EXPECT_EQ(barks, 1);
  EXPECT_NE(printed.find("all_gather #0 on tp (64 bytes)"), std::string::npos) << printed;
}

TEST(Watchdog, StaysSilentBetweenOperations) {
  const auto journal = std::make_shared<Journal>(8);
  std::atomic<int> barks{0};
  journal->end(journal->begin(Operation::barrier, "dp", 0));
  {
    const Watchdog dog{
        journal,
        {.timeout_s = 0.005, .poll_s = 0.002, .on_timeout = [&](const TraceEntry&) { ++barks; }}};
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  EXPECT_EQ(barks, 0);
}

TEST(Journal, TheOuterOfNestedOperationsIsInFlight) {
  Journal journal{8};
  const auto outer = journal.begin(Operation::all_to_all_v, "ep", 64);
  journal.end(journal.begin(Operation::all_gather, "tp", 8));
  ASSERT_TRUE(journal.in_flight());
  EXPECT_EQ(journal.in_flight()->sequence, outer);
  journal.end(outer);
  EXPECT_FALSE(journal.in_flight());
}

TEST(Journal, APostedOperationIsInFlightWhenTheHostWaitsInIt) {
  Journal journal{8};
  const auto first = journal.post(Operation::reduce_scatter, "dp", 64);
  const auto second = journal.post(Operation::reduce_scatter, "dp", 32);
  EXPECT_FALSE(journal.in_flight()) << "the host computes";
  const auto other = journal.begin(Operation::all_gather, "tp", 8);
  ASSERT_TRUE(journal.in_flight());
  EXPECT_EQ(journal.in_flight()->sequence, other);
  journal.end(other);
  EXPECT_FALSE(journal.in_flight());
  journal.end(first);
  EXPECT_EQ(journal.traffic(Operation::reduce_scatter).seconds, 0.0) << "nobody waited";
  journal.wait(second);
  ASSERT_TRUE(journal.in_flight());
  EXPECT_EQ(journal.in_flight()->sequence, second);
  EXPECT_LT(journal.age_s(*journal.in_flight()), 1.0);
  journal.end(second);
  EXPECT_FALSE(journal.in_flight());
  EXPECT_GT(journal.traffic(Operation::reduce_scatter).seconds, 0.0);
  EXPECT_EQ(journal.traffic(Operation::reduce_scatter).bytes, 96);
}

TEST(Watchdog, IgnoresAPostedOperationWhileTheHostComputes) {
  const auto journal = std::make_shared<Journal>(8);
  std::atomic<int> barks{0};
  const auto posted = journal->post(Operation::reduce_scatter, "dp", 64);
  const Watchdog dog{journal,
                     {.timeout_s = 0.02,
                      .poll_s = 0.002,
                      .on_timeout = [&](const TraceEntry&) { ++barks; },
                      .print = [](std::string_view) {}}};
  std::this_thread::sleep_for(std::chrono::milliseconds{60});
  EXPECT_EQ(barks, 0);
  journal->wait(posted);
  for (int i = 0; i < 400 && barks == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  EXPECT_EQ(barks, 1);
}

}  // namespace
}  // namespace shoal::comm
