#include "shoal/comm/call_log.hpp"

#include <gtest/gtest.h>

#include "shoal/comm/collectives_factory.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::comm {
namespace {

constexpr int kAll = 0, kPair = 1;  // groups of the ranks below

RecordedCall reduce(std::int64_t bytes, int group = kAll) {
  return {.group = group, .op = Operation::all_reduce, .bytes = bytes, .type = ElementType::f32};
}
RecordedCall gather(std::int64_t bytes, int group = kAll) {
  return {.group = group, .op = Operation::all_gather, .bytes = bytes};
}
RecordedCall send(std::int64_t bytes, int to, int batch = -1) {
  return {.op = Operation::send, .bytes = bytes, .peer = to, .batch = batch};
}
RecordedCall recv(std::int64_t bytes, int from, int batch = -1) {
  return {.op = Operation::recv, .bytes = bytes, .peer = from, .batch = batch};
}

/// Ranks 0, 1, 2 in one group; 1 and 2 in a second.
std::vector<RankCalls> ranks_with(const std::vector<std::vector<RecordedCall>>& calls) {
  std::vector<RankCalls> ranks;
  for (std::size_t r = 0; r < calls.size(); ++r) {
    RankCalls& rank = ranks.emplace_back();
    rank.groups.push_back({"all", {0, 1, 2}});
    if (r > 0) rank.groups.push_back({"pair", {1, 2}});
    rank.calls = calls[r];
  }
  return ranks;
}

std::string problem(const std::vector<std::vector<RecordedCall>>& calls,
                    const SequenceRules& rules = {}) {
  return check_sequences(ranks_with(calls), rules).value_or("none");
}

TEST(CheckSequences, AcceptsWhatAllRanksAgreeOn) {
  EXPECT_EQ(problem({{reduce(8), gather(4)},
                     {gather(2, kPair), reduce(8), gather(4)},
                     {gather(2, kPair), reduce(8), gather(4)}}),
            "none");
  EXPECT_EQ(problem({{}, {}, {}}), "none");
}

TEST(CheckSequences, FindsAMismatchedOrder) {
  EXPECT_EQ(problem({{gather(4), reduce(8)}, {gather(4), reduce(8)}, {reduce(8), gather(4)}}),
            "call 0 of all [0 1 2]: rank 0 calls all_gather of 4 bytes, rank 2 calls all_reduce of "
            "8 bytes, f32, sum");
}

TEST(CheckSequences, FindsAMismatchedSize) {
  const std::string text =
      problem({{gather(4), reduce(8)}, {gather(4), reduce(12)}, {gather(4), reduce(8)}});
  EXPECT_EQ(text,
            "call 1 of all [0 1 2]: rank 0 calls all_reduce of 8 bytes, f32, sum, rank 1 calls "
            "all_reduce of 12 bytes, f32, sum");
}

TEST(CheckSequences, FindsAnotherReductionTypeOrRoot) {
  RecordedCall max = reduce(8), half = reduce(8);
  max.reduce = ReduceOp::max;
  half.type = ElementType::bf16;
  EXPECT_NE(problem({{reduce(8)}, {max}, {reduce(8)}}), "none");
  EXPECT_NE(problem({{reduce(8)}, {reduce(8)}, {half}}), "none");
  const RecordedCall root0{.op = Operation::broadcast, .bytes = 4, .peer = 0};
  const RecordedCall root1{.op = Operation::broadcast, .bytes = 4, .peer = 1};
  EXPECT_NE(problem({{root0}, {root0}, {root1}}), "none");
}

TEST(CheckSequences, FindsAMissingCall) {
  EXPECT_EQ(problem({{reduce(8), gather(4)}, {reduce(8)}, {reduce(8), gather(4)}}),
            "rank 0 waits in all_gather of 4 bytes, call 1 of all [0 1 2]; rank 2 waits in "
            "all_gather of 4 bytes, call 1 of all [0 1 2]; all other calls have run");
}

// Each group for itself is in order, but on one stream rank 1 waits for 0 and 2, and 2 for 1.
TEST(CheckSequences, FindsGroupsInDifferentOrderOnOneStream) {
  const std::vector<std::vector<RecordedCall>> calls{
      {reduce(8)}, {reduce(8), gather(4, kPair)}, {gather(4, kPair), reduce(8)}};
  EXPECT_NE(problem(calls), "none");
  EXPECT_EQ(problem(calls, {.one_stream = false}), "none");
}

TEST(CheckSequences, SendsMatchReceives) {
  EXPECT_EQ(problem({{send(4, 1), recv(8, 2)}, {recv(4, 0), send(6, 2)}, {recv(6, 1), send(8, 0)}}),
            "none");
  EXPECT_EQ(problem({{send(4, 1)}, {recv(5, 0)}, {}}),
            "call 0 of all [0 1 2]: rank 0 calls send of 4 bytes to member 1, rank 1 calls recv of "
            "5 bytes from member 0");
  EXPECT_NE(problem({{send(4, 1)}, {}, {}}), "none");
}

TEST(CheckSequences, MessagesThatCrossNeedABatch) {
  EXPECT_NE(problem({{send(4, 1), recv(4, 1)}, {send(4, 0), recv(4, 0)}, {}}), "none");
  EXPECT_EQ(problem({{send(4, 1, 7), recv(4, 1, 7)}, {send(4, 0, 3), recv(4, 0, 3)}, {}}), "none");
}

TEST(CheckSequences, ExchangedRowsMatch) {
  const auto exchange = [](std::vector<std::int64_t> sends, std::vector<std::int64_t> recvs) {
    return RecordedCall{.group = kPair,
                        .op = Operation::all_to_all_v,
                        .bytes = 16,
                        .send_rows = std::move(sends),
                        .recv_rows = std::move(recvs)};
  };
  EXPECT_EQ(problem({{}, {exchange({1, 2}, {1, 0})}, {exchange({0, 5}, {2, 5})}}), "none");
  EXPECT_EQ(problem({{}, {exchange({1, 2}, {1, 0})}, {exchange({0, 5}, {3, 5})}}),
            "call 0 of pair [1 2]: rank 1 sends 2 rows to rank 2, which expects 3");
}

/// What a step might do, over the real transport.
std::optional<std::string> run_and_check(const Communicator& world, bool plant_a_fault) {
  const auto log = std::make_shared<CallLog>();
  const auto half = world.split({.color = world.rank() / 2, .name = "half"});
  const CollectivesFactory factory{world, DeviceKind::cpu, {.calls = log}};
  const auto all = factory.make(world), part = factory.make(half);
  const Exec exec{DeviceKind::cpu, ArenaPlan{}};
  const Tensor small{DeviceKind::cpu, {6}, DType::f32};
  const Tensor large{DeviceKind::cpu, {6 * half.size()}, DType::f32};
  zero(exec, small);
  part->all_gather(exec, {.send = small, .recv = large});
  part->reduce_scatter(exec, {.send = large, .recv = small});
  all->broadcast(exec, small, 0);
  all->all_reduce(exec, small, ReduceOp::sum);
  RankCalls mine = log->calls();
  if (plant_a_fault && world.rank() == 1) mine.calls.pop_back();
  const auto calls = gather_calls(world, mine);
  return world.is_root() ? check_sequences(calls) : std::nullopt;
}

TEST(RecordingCollectives, RanksOfARunAgree) {
  const auto world = Communicator::world();
  EXPECT_EQ(run_and_check(world, false).value_or("none"), "none");
  const std::string text = run_and_check(world, true).value_or("none");
  if (world.size() == 1 || !world.is_root()) return;
  EXPECT_NE(text.find("rank 0 waits in all_reduce of 24 bytes"), std::string::npos) << text;
}

}  // namespace
}  // namespace shoal::comm
