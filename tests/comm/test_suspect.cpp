#include "comm/suspect.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "comm/progress_board.hpp"

namespace shoal::comm {
namespace {

constexpr std::uint64_t kWorld = 10, kPair = 20;
constexpr double kNow = 1000.0;

/// Ranks that are alive and know the groups.
std::vector<RankProgress> make_ranks(int count) {
  std::vector<RankProgress> ranks(static_cast<std::size_t>(count));
  for (int r = 0; r < count; ++r) {
    RankProgress& rank = ranks[static_cast<std::size_t>(r)];
    rank.rank = r;
    rank.pid = ::getpid();
    rank.alive_s = kNow;
    (void)rank.open_group(kWorld, "world");
    if (r >= 1) (void)rank.open_group(kPair, "pair");
  }
  return ranks;
}
void finish(RankProgress& rank, int group, std::int64_t calls) {
  rank.groups[static_cast<std::size_t>(group)].begun = calls;
  rank.groups[static_cast<std::size_t>(group)].finished = calls;
}
void wait_in(RankProgress& rank, int group, Operation op) {
  GroupProgress& progress = rank.groups[static_cast<std::size_t>(group)];
  const bool counted = involves_all_ranks(op);
  rank.current.number = counted ? progress.begun++ : -1;
  rank.current.group = group;
  rank.current.bytes = 64;
  rank.current.since_s = kNow - 30.0;
  rank.current.op = static_cast<int>(op);
}
SuspectSearch search(const std::vector<RankProgress>& ranks, std::size_t from) {
  return {.ranks = ranks, .from = from, .now_s = kNow, .silent_s = 2.0};
}

TEST(Suspect, IsTheMemberThatHasNotCome) {
  auto ranks = make_ranks(3);
  for (auto& rank : ranks) finish(rank, 0, 12);
  wait_in(ranks[0], 0, Operation::all_reduce);
  wait_in(ranks[2], 0, Operation::all_reduce);
  EXPECT_EQ(find_suspect(search(ranks, 0)).rank, 1U);
  EXPECT_EQ(describe_suspect(search(ranks, 0)),
            "rank 1 (pid " + std::to_string(::getpid()) +
                ") is behind: it last finished call 11 of world; rank 0 waits in call 12 of world, "
                "all_reduce (64 bytes), for 30 s. Rank 1 runs, outside of any collective");
}

TEST(Suspect, IsFoundThroughAChainOfWaits) {
  auto ranks = make_ranks(3);
  wait_in(ranks[0], 0, Operation::barrier);    // for 1 and 2
  wait_in(ranks[1], 1, Operation::broadcast);  // for 2
  const Suspect found = find_suspect(search(ranks, 0));
  EXPECT_EQ(found.rank, 2U);
  EXPECT_EQ(found.waiter, 1U);
}

TEST(Suspect, ASilentMemberOfACallThatAllHaveBegun) {
  auto ranks = make_ranks(3);
  for (auto& rank : ranks) wait_in(rank, 0, Operation::all_gather);
  EXPECT_EQ(describe_suspect(search(ranks, 0)), "no rank of this host is behind");
  ranks[2].alive_s = kNow - 9.0;
  EXPECT_EQ(find_suspect(search(ranks, 0)).rank, 2U);
  EXPECT_NE(describe_suspect(search(ranks, 0)).find("no sign of life for 9 s"), std::string::npos);
}

TEST(Suspect, AMessageIsFollowedThroughTheWaitOfAnother) {
  auto ranks = make_ranks(3);
  wait_in(ranks[0], 0, Operation::recv);
  wait_in(ranks[1], 1, Operation::all_reduce);
  EXPECT_EQ(find_suspect(search(ranks, 0)).rank, 2U);
}

TEST(Suspect, AProcessThatIsGoneIsSaidSo) {
  auto ranks = make_ranks(2);
  wait_in(ranks[0], 0, Operation::barrier);
  ranks[1].pid = -1;
  EXPECT_NE(describe_suspect(search(ranks, 0)).find("Rank 1 has no living process"),
            std::string::npos);
}

TEST(ProgressBoard, RanksOfAHostSeeEachOther) {
  const auto world = Communicator::world();
  const auto board = ProgressBoard::share(world);
  ASSERT_EQ(std::ssize(board->ranks()), world.size());
  EXPECT_TRUE(board->all_ranks_are_here());
  world.journal()->publish_to({board, &board->mine()});
  const auto group = world.split({.color = 0, .name = "group"});
  if (world.rank() == 0)
    group.journal()->end(
        group.journal()->begin(Operation::barrier, "group", 0, group.journal_group()));
  world.barrier();
  const RankProgress& first = board->ranks()[0];
  EXPECT_EQ(first.rank, 0);
  EXPECT_EQ(first.num_groups, 2);
  EXPECT_EQ(name_of(first.groups[1]), "group");
  EXPECT_EQ(first.groups[1].finished, 1);
  EXPECT_NE(board->ranks()[0].find(board->mine().groups[1].id), nullptr);  // the same id everywhere
  world.barrier();
}

TEST(ProgressBoard, OneRankRaisesTheAlarm) {
  const auto world = Communicator::world();
  const auto board = ProgressBoard::share(world);
  EXPECT_EQ(world.all_reduce_value(board->raise_alarm() ? 1 : 0, ReduceOp::sum), 1);
  EXPECT_TRUE(board->alarmed());
}

}  // namespace
}  // namespace shoal::comm
