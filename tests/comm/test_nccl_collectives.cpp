#include "comm/nccl_collectives.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <numeric>
#include <thread>

#include "recording_nccl.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::comm {
namespace {

constexpr int kRanks = 4;

/// Runs `step` as each of four ranks, each with a group of all and a pair, and compares the calls.
using Step =
    std::function<void(int rank, const Exec&, NcclCollectives& all, NcclCollectives& pair)>;

std::vector<RankCalls> record(const Step& step) {
  const Exec exec{DeviceKind::cpu, ArenaPlan{}};
  std::vector<RankCalls> calls;
  for (int rank = 0; rank < kRanks; ++rank) {
    RecordedRank recorded{rank, kRanks};
    std::vector<int> members{0, 1, 2, 3};
    NcclCollectives all{
        {"all", -1},
        std::make_unique<RecordingNccl>(RecordedGroup{"all", members}, rank, recorded.log),
        recorded.session};
    NcclCollectives pair{
        {"pair", -1},
        recorded.session->split({.color = rank / 2 * 2, .key = rank % 2, .name = "pair"}),
        recorded.session};
    step(rank, exec, all, pair);
    calls.push_back(recorded.log->calls());
  }
  return calls;
}

void a_step(int rank, const Exec& exec, NcclCollectives& all, NcclCollectives& pair) {
  const Tensor x{DeviceKind::cpu, {8}, DType::bf16};
  const Tensor y{DeviceKind::cpu, {16}, DType::bf16};
  pair.all_gather(exec, {.send = x, .recv = y});
  pair.reduce_scatter(exec, {.send = y, .recv = x});
  all.all_reduce(exec, x, ReduceOp::max);
  all.broadcast(exec, y, 3);
  const int other = 1 - rank % 2;
  pair.exchange(exec, {.send = x, .to = other, .recv = x, .from = other});
  if (rank == 0) all.send(exec, y, 3);
  if (rank == 3) all.recv(exec, y, 0);
}

TEST(NcclCollectives, RanksIssueTheSameCallsInTheSameOrder) {
  EXPECT_EQ(check_sequences(record(a_step)).value_or("none"), "none");
}

TEST(NcclCollectives, CallsCarryCountsTypesAndRoots) {
  const auto calls = record(a_step)[0].calls;
  ASSERT_EQ(calls.size(), 7U);
  EXPECT_EQ(calls[0].op, Operation::all_gather);
  EXPECT_EQ(calls[0].bytes, 16);
  EXPECT_EQ(calls[1].op, Operation::reduce_scatter);
  EXPECT_EQ(calls[1].bytes, 32);
  EXPECT_EQ(calls[1].type, ElementType::bf16);
  EXPECT_EQ(calls[2].reduce, ReduceOp::max);
  EXPECT_EQ(calls[3].peer, 3);
  EXPECT_EQ(calls[4].batch, calls[5].batch);
  EXPECT_GE(calls[4].batch, 0);
}

TEST(NcclCollectives, APlantedFaultIsFound) {
  const auto text = check_sequences(record([](int rank, const Exec& exec, auto& all, auto& pair) {
    a_step(rank, exec, all, pair);
    const Tensor x{DeviceKind::cpu, {rank == 2 ? 5 : 4}, DType::f32};
    all.all_reduce(exec, x, ReduceOp::sum);
  }));
  EXPECT_NE(text.value_or("none").find("rank 2 calls all_reduce of 20 bytes"), std::string::npos)
      << text.value_or("none");
}

/// Rank s sends s + d rows to rank d: rank 0 none to itself.
void exchange_rows(int rank, const Exec& exec, NcclCollectives& all, std::int64_t too_many) {
  std::vector<std::int64_t> send_rows, recv_rows;
  for (int r = 0; r < kRanks; ++r) {
    send_rows.push_back(rank + r + (r == 3 && rank == 1 ? too_many : 0));
    recv_rows.push_back(rank + r);
  }
  const auto total = [](const auto& rows) {
    return std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  };
  const Tensor send{DeviceKind::cpu, {total(send_rows), 3}, DType::bf16};
  const Tensor recv{DeviceKind::cpu, {total(recv_rows), 3}, DType::bf16};
  int overlapped = 0;
  all.all_to_all_rows(
      exec,
      {.send = send, .send_rows = send_rows, .recv = recv, .recv_rows = recv_rows, .overlap = [&] {
         ++overlapped;
       }});
  EXPECT_EQ(overlapped, 1);
}

TEST(NcclCollectives, RowsGoAsOneGroupOfMessagesThatMatch) {
  const auto calls = record(
      [](int rank, const Exec& exec, auto& all, auto&) { exchange_rows(rank, exec, all, 0); });
  EXPECT_EQ(check_sequences(calls).value_or("none"), "none");
  ASSERT_EQ(calls[0].calls.size(), 6U);  // nothing to and from itself
  for (const RecordedCall& call : calls[0].calls) EXPECT_EQ(call.batch, 0);
  EXPECT_EQ(calls[1].calls.back().bytes, 4 * 6);
}

TEST(NcclCollectives, RowsThatNobodyExpectsAreFound) {
  const auto calls = record(
      [](int rank, const Exec& exec, auto& all, auto&) { exchange_rows(rank, exec, all, 1); });
  EXPECT_NE(check_sequences(calls).value_or("none").find(
                "rank 1 calls send of 30 bytes to member 3, rank 3 calls recv of 24 bytes"),
            std::string::npos)
      << check_sequences(calls).value_or("none");
}

TEST(NcclCollectives, AGroupOfOneCallsToo) {
  RecordedRank recorded{0, 1};
  const Exec exec{DeviceKind::cpu, ArenaPlan{}};
  NcclCollectives alone{
      {"self", -1},
      std::make_unique<RecordingNccl>(RecordedGroup{"self", {0}}, 0, recorded.log),
      recorded.session};
  EXPECT_TRUE(alone.capturable());
  const Tensor x{DeviceKind::cpu, {8}, DType::f32};
  alone.all_reduce(exec, x, ReduceOp::sum);
  alone.all_gather(exec, {.send = x, .recv = x});
  EXPECT_EQ(recorded.log->calls().calls.size(), 2U);
}

bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return condition();
}

TEST(NcclSession, EntriesEndWhenTheDeviceHasComePastThem) {
  RecordedRank recorded{0, 2};
  const auto sequence = recorded.journal->begin(Operation::all_reduce, "dp", 64);
  recorded.session->end_with_stream(sequence, nullptr);
  const auto other = recorded.journal->begin(Operation::barrier, "world", 0);
  recorded.journal->end(other);
  std::this_thread::sleep_for(std::chrono::milliseconds{20});
  ASSERT_TRUE(recorded.journal->in_flight());
  EXPECT_EQ(recorded.journal->in_flight()->group, "dp");  // the watchdog sees it
  recorded.marks->open = true;
  EXPECT_TRUE(comes_true([&] { return !recorded.journal->in_flight(); }));
}

TEST(NcclSession, WithoutAMarkEntriesEndAtOnce) {
  RecordedRank recorded{0, 2, 1};
  const auto issue = [&] {
    recorded.session->end_with_stream(recorded.journal->begin(Operation::broadcast, "dp", 4),
                                      nullptr);
  };
  recorded.marks->capturing = true;
  issue();
  EXPECT_FALSE(recorded.journal->in_flight());
  recorded.marks->capturing = false;
  issue();  // takes the only mark
  issue();
  EXPECT_EQ(recorded.journal->entries()[1].done, false);
  EXPECT_EQ(recorded.journal->entries()[2].done, true);
}

TEST(NcclSession, AnErrorOfTheDeviceAbortsEverything) {
  RecordedRank recorded{0, 2};
  auto comm = std::make_unique<RecordingNccl>(RecordedGroup{"dp", {0, 1}}, 0, recorded.log);
  RecordingNccl* group = comm.get();
  const NcclCollectives dp{{"dp", -1}, std::move(comm), recorded.session};
  group->break_it();
  ASSERT_TRUE(comes_true([&] { return recorded.failed.load(); }));
  EXPECT_EQ(recorded.error, "a cable was pulled");
  EXPECT_EQ(group->aborts(), 1);
  EXPECT_EQ(recorded.world->aborts(), 1);
  recorded.session->abort();
  EXPECT_EQ(group->aborts(), 1);
}

}  // namespace
}  // namespace shoal::comm
