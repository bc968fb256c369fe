#include "shoal/pipeline/executor.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "fake_verbs.hpp"
#include "shoal/base/error.hpp"
#include "shoal/pipeline/timeline.hpp"

namespace shoal::pipeline {
namespace {

/// Every kind on all ranks of the job.
std::vector<ScheduleShape> shapes(int stages, int micro_batches) {
  return {{ScheduleKind::gpipe, stages, micro_batches, 1},
          {ScheduleKind::one_f_one_b, stages, micro_batches, 1},
          {ScheduleKind::interleaved, stages, micro_batches, 2},
          {ScheduleKind::interleaved, stages, micro_batches, 3},
          {ScheduleKind::zb_h1, stages, micro_batches, 1},
          {ScheduleKind::zbv, stages, micro_batches, 2}};
}
std::string text(const ScheduleShape& s) {
  return std::string{name(s.kind)} + " v=" + std::to_string(s.chunks) +
         " m=" + std::to_string(s.micro_batches);
}

/// Memory of a step, counted on a dry Exec with a group on paper.
ArenaPlan planned(const ScheduleShape& shape, int rank) {
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const Communicator paper = Communicator::on_paper(rank, shape.stages);
  test::MultiplyingVerbs verbs{shape, rank};
  Executor executor{dry, {.shape = shape, .verbs = verbs, .group = paper}};
  executor.run(dry);
  return dry.arena().plan();
}

double product(int first, int last) {
  double p = 1.0;
  for (int k = first; k < last; ++k) p *= k + 2;
  return p;
}

TEST(Executor, ComputesTheSameInEverySchedule) {
  const Communicator world = Communicator::world();
  for (const int m : {1, 3, 6}) {
    for (const ScheduleShape& shape : shapes(world.size(), m)) {
      const int chunks = shape.model_chunks();
      if (chunks > 8) continue;  // larger products are not exact in fp32
      const ArenaPlan plan = planned(shape, world.rank());
      const Exec exec{DeviceKind::cpu, plan};
      test::MultiplyingVerbs verbs{shape, world.rank()};
      Executor executor{exec, {.shape = shape, .verbs = verbs, .group = world}};
      for (int step = 1; step <= 2; ++step) {
        verbs.calls.clear();
        executor.run(exec);
        EXPECT_EQ(verbs.calls, executor.actions()) << text(shape);
        for (int c = 0; c < shape.chunks; ++c) {
          const int k = model_chunk(shape, {world.rank(), c});
          const double inputs = m * (m + 1) / 2.0;
          EXPECT_EQ(verbs.weight_gradient[static_cast<std::size_t>(c)],
                    step * 6.0 * inputs * product(0, k) * product(k + 1, chunks))
              << text(shape) << " chunk " << k;
        }
      }
      for (int i = 0; i < static_cast<int>(verbs.outputs.size()); ++i) {
        EXPECT_EQ(verbs.outputs[static_cast<std::size_t>(i)], (i % m + 1) * product(0, chunks));
      }
      EXPECT_EQ(exec.arena().plan().saved, plan.saved) << text(shape);
      EXPECT_EQ(exec.arena().plan().persistent, plan.persistent) << text(shape);
      EXPECT_EQ(exec.arena().plan().scratch, plan.scratch) << text(shape);
      EXPECT_EQ(std::ssize(plan.saved), executor.slots() + executor.delta_slots());
    }
  }
}

TEST(Executor, SendsEachBorderOnceEachWay) {
  const Communicator world = Communicator::world();
  const int p = world.size(), m = 4;
  for (const ScheduleShape& shape : shapes(p, m)) {
    const Communicator group = world.split({.color = 0, .key = world.rank(), .name = "pp"});
    const auto before = world.journal()->traffic(comm::Operation::send);
    const Exec exec{DeviceKind::cpu, planned(shape, world.rank())};
    test::MultiplyingVerbs verbs{shape, world.rank()};
    Executor executor{exec, {.shape = shape, .verbs = verbs, .group = group}};
    executor.run(exec);
    const auto after = world.journal()->traffic(comm::Operation::send);
    std::int64_t borders = 0;  // that leave this rank
    for (int c = 0; c < shape.chunks; ++c) {
      const int k = model_chunk(shape, {world.rank(), c});
      for (const int other : {k - 1, k + 1}) {
        if (other < 0 || other >= shape.model_chunks()) continue;
        borders += place_of(shape, other).rank != world.rank() ? 1 : 0;
      }
    }
    EXPECT_EQ(after.calls - before.calls, borders * m) << text(shape);
    EXPECT_EQ(after.bytes - before.bytes, borders * m * 24) << text(shape);
  }
}

TEST(Executor, NeedsAGroupOfAsManyRanksAsStages) {
  const Communicator paper = Communicator::on_paper(0, 2);
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const ScheduleShape shape{ScheduleKind::one_f_one_b, 3, 4, 1};
  test::MultiplyingVerbs verbs{shape, 0};
  EXPECT_THROW((Executor{dry, {.shape = shape, .verbs = verbs, .group = paper}}), Error);
}

/// Ranks that meet without MPI, as those do that wait in a collective of their devices.
class MeetingByFiles {
 public:
  explicit MeetingByFiles(const Communicator& world) : world_{world} {
    const auto temp = std::filesystem::temp_directory_path();
    const std::string mine = (temp / ("shoal-meeting-" + std::to_string(::getpid()))).string();
    folder_ = world.broadcast_string(mine, 0);
    std::filesystem::create_directory(folder_);
  }
  ~MeetingByFiles() {
    world_.barrier();
    if (world_.is_root()) std::filesystem::remove_all(folder_);
  }
  MeetingByFiles(const MeetingByFiles&) = delete;
  MeetingByFiles& operator=(const MeetingByFiles&) = delete;

  /// Whether all ranks came within some seconds.
  [[nodiscard]] bool meet(const std::string& where) const {
    std::ofstream{file(where, world_.rank())};
    const Stopwatch clock;
    for (int r = 0; r < world_.size(); ++r) {
      while (!std::filesystem::exists(file(where, r))) {
        if (clock.seconds() > 5.0) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
      }
    }
    return true;
  }

 private:
  [[nodiscard]] std::filesystem::path file(const std::string& where, int rank) const {
    return folder_ / (where + "-" + std::to_string(rank));
  }
  const Communicator& world_;
  std::filesystem::path folder_;
};

/// MPI brings large messages on only while their sender is in MPI: a rank that left a message
/// behind and waits elsewhere would hold up the one that receives it, for ever.
TEST(Executor, LeavesNoMessageBehind) {
  const Communicator world = Communicator::world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  const MeetingByFiles meeting{world};
  const Exec exec{DeviceKind::cpu,
                  ArenaPlan{.persistent = std::int64_t{8} << 20,
                            .saved = std::vector<std::int64_t>(64, std::int64_t{2} << 20),
                            .scratch = std::int64_t{8} << 20}};
  for (const ScheduleShape& shape : shapes(world.size(), 3)) {
    test::SleepingVerbs verbs{0.0, std::int64_t{1} << 18};
    Executor executor{exec, {.shape = shape, .verbs = verbs, .group = world}};
    executor.run(exec);
    const int met = meeting.meet(text(shape)) ? 1 : 0;
    EXPECT_EQ(world.all_reduce_value(met, comm::ReduceOp::min), 1) << text(shape);
  }
}

/// What nobody worked in of `p * longest run`, and what the executors say themselves, averaged over
/// the ranks.
struct Idle {
  double bubble = 1.0;
  double waiting = 1.0;
};
constexpr double kStageSeconds = 0.01;

Idle measure(const Communicator& world, const ScheduleShape& shape) {
  const Exec exec{
      DeviceKind::cpu,
      ArenaPlan{.persistent = 4096, .saved = std::vector<std::int64_t>(64, 1024), .scratch = 4096}};
  test::SleepingVerbs verbs{kStageSeconds / shape.chunks};
  Executor executor{exec, {.shape = shape, .verbs = verbs, .group = world}};
  world.barrier();
  executor.run(exec);
  const double longest = world.all_reduce_value(executor.seconds(), comm::ReduceOp::max);
  const double work = world.all_reduce_value(verbs.slept(), comm::ReduceOp::sum);
  const double waiting = world.all_reduce_value(executor.idle_share(), comm::ReduceOp::sum);
  return {1.0 - work / (world.size() * longest), waiting / world.size()};
}

/// Mean over ranks of the idle share up to each rank's own end, which is what an executor measures.
double idle_in_theory(const Timeline& t) {
  double sum = 0.0;
  for (std::size_t r = 0; r < t.busy.size(); ++r) {
    double end = 0.0;
    for (const TimelineEvent& e : t.events) {
      if (e.rank == static_cast<int>(r)) end = std::max(end, e.end);
    }
    sum += 1.0 - t.busy[r] / end;
  }
  return sum / static_cast<double>(t.busy.size());
}

Idle in_theory(const ScheduleShape& shape) {
  const double part = 1.0 / shape.chunks;
  const Timeline theory = simulate(shape, {.chunks = {{part, part, part}}});
  return {theory.bubble_share(), idle_in_theory(theory)};
}

/// Near the timeline that the planner executes, and in its order where that one sees a difference.
::testing::AssertionResult as_planned(const std::vector<Idle>& got,
                                      const std::vector<ScheduleShape>& shapes) {
  constexpr double kNear = 0.06, kDifferent = 0.02;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const Idle theory = in_theory(shapes[i]);
    bool good = std::abs(got[i].bubble - theory.bubble) < kNear &&
                std::abs(got[i].waiting - theory.waiting) < kNear;
    for (std::size_t j = 0; j < i; ++j) {
      const Idle other = in_theory(shapes[j]);
      if (theory.bubble < other.bubble - kDifferent) good &= got[i].bubble < got[j].bubble;
      if (theory.waiting < other.waiting - kDifferent) good &= got[i].waiting < got[j].waiting;
    }
    if (good) continue;
    return ::testing::AssertionFailure()
           << text(shapes[i]) << ": bubble " << got[i].bubble << " (in theory " << theory.bubble
           << "), waiting " << got[i].waiting << " (" << theory.waiting << ")";
  }
  return ::testing::AssertionSuccess();
}

TEST(Executor, IdleShareAndRankingOfSchedulesFollowTheTheory) {
  const Communicator world = Communicator::world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  const int p = world.size(), m = 2 * p;
  const std::vector<ScheduleShape> shapes = {{ScheduleKind::gpipe, p, m, 1},
                                             {ScheduleKind::one_f_one_b, p, m, 1},
                                             {ScheduleKind::interleaved, p, m, 2},
                                             {ScheduleKind::zb_h1, p, m, 1},
                                             {ScheduleKind::zbv, p, m, 2}};
  std::vector<Idle> least(shapes.size());
  // Other programs can only make a run worse, so that the best of a few counts.
  for (int attempt = 0; attempt < 8 && !as_planned(least, shapes); ++attempt) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const Idle got = measure(world, shapes[i]);
      least[i] = {std::min(least[i].bubble, got.bubble), std::min(least[i].waiting, got.waiting)};
    }
  }
  EXPECT_TRUE(as_planned(least, shapes));
}

}  // namespace
}  // namespace shoal::pipeline
