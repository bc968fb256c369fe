#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <thread>

#include "comm/nccl_point_to_point.hpp"
#include "comm/recording_nccl.hpp"
#include "comm/recording_queue.hpp"
#include "fake_verbs.hpp"
#include "shoal/pipeline/message_plan.hpp"
#include "thread_nccl.hpp"

// Messages of a pipeline through NCCL, without a device.
namespace shoal::pipeline {
namespace {

constexpr std::int64_t kBorderBytes = 24;

std::vector<ScheduleShape> shapes(int stages, int micro_batches) {
  return {{ScheduleKind::gpipe, stages, micro_batches, 1},
          {ScheduleKind::one_f_one_b, stages, micro_batches, 1},
          {ScheduleKind::interleaved, stages, micro_batches, 2},
          {ScheduleKind::interleaved, stages, micro_batches, 3},
          {ScheduleKind::zb_h1, stages, micro_batches, 1},
          {ScheduleKind::zbv, stages, micro_batches, 2}};
}

std::string text(const ScheduleShape& s) {
  return std::string{name(s.kind)} + " p=" + std::to_string(s.stages) +
         " v=" + std::to_string(s.chunks) + " m=" + std::to_string(s.micro_batches);
}

void for_shapes(const std::function<void(const ScheduleShape&)>& body) {
  for (const int stages : {2, 3, 4, 6}) {
    for (const int micro_batches : {1, 2, 3, 7, 12}) {
      for (const ScheduleShape& shape : shapes(stages, micro_batches)) {
        SCOPED_TRACE(text(shape));
        body(shape);
      }
    }
  }
}

ArenaPlan planned(const ScheduleShape& shape, int rank) {
  const Exec dry = Exec::dry(DeviceKind::cpu);
  const Communicator paper = Communicator::on_paper(rank, shape.stages);
  test::MultiplyingVerbs verbs{shape, rank};
  Executor executor{
      dry, {.shape = shape, .verbs = verbs, .group = paper, .plans_device_messages = true}};
  executor.run(dry);
  return dry.arena().plan();
}

/// One rank of a pipeline whose messages go through the given communicator.
struct Stage {
  Stage(const ScheduleShape& shape, int rank, std::unique_ptr<comm::NcclComm> comm,
        std::unique_ptr<comm::SideQueue> queue)
      : exec{DeviceKind::cpu, planned(shape, rank)},
        group{Communicator::on_paper(rank, shape.stages)},
        verbs{shape, rank} {
    const comm::MessagePlan plan = message_plan(shape, rank);
    executor.emplace(exec, ExecutorParts{.shape = shape, .verbs = verbs, .group = group},
                     std::make_unique<comm::NcclPointToPoint>(comm::NcclPointToPoint::Parts{
                         .name = "pp",
                         .comm = std::move(comm),
                         .queue = std::move(queue),
                         .session = recorded.session,
                         .plan = plan,
                         .buffers = comm::reserve_buffers(exec, plan, kBorderBytes)}));
  }
  Exec exec;
  Communicator group;
  comm::RecordedRank recorded{0, 1};
  test::MultiplyingVerbs verbs;
  std::optional<Executor> executor;
};

TEST(DeviceMessages, AllRanksIssueThemInMatchingOrder) {
  for_shapes([](const ScheduleShape& shape) {
    std::vector<int> members;
    for (int r = 0; r < shape.stages; ++r) members.push_back(r);
    std::vector<comm::RankCalls> calls;
    for (int r = 0; r < shape.stages; ++r) {
      const auto log = std::make_shared<comm::CallLog>();
      const auto lines = std::make_shared<std::vector<std::string>>();
      Stage stage{shape, r,
                  std::make_unique<comm::RecordingNccl>(comm::RecordedGroup{"pp", members}, r, log),
                  std::make_unique<comm::RecordingQueue>(lines)};
      for (int step = 0; step < 2; ++step) stage.executor->run(stage.exec);
      calls.push_back(log->calls());
    }
    EXPECT_EQ(comm::check_sequences(calls).value_or("none"), "none");
  });
}

double product(int first, int last) {
  double p = 1.0;
  for (int k = first; k < last; ++k) p *= k + 2;
  return p;
}

void expect_gradients(const ScheduleShape& shape, int rank, const test::MultiplyingVerbs& verbs) {
  const double inputs = shape.micro_batches * (shape.micro_batches + 1) / 2.0;
  const int chunks = shape.model_chunks();
  for (int c = 0; c < shape.chunks; ++c) {
    const int k = model_chunk(shape, {rank, c});
    EXPECT_EQ(verbs.weight_gradient[static_cast<std::size_t>(c)],
              2.0 * 6.0 * inputs * product(0, k) * product(k + 1, chunks))
        << "chunk " << k;
  }
}

TEST(DeviceMessages, BringEachStageWhatItNeeds) {
  for_shapes([](const ScheduleShape& shape) {
    if (shape.model_chunks() > 8) return;  // larger products are not exact in fp32
    const auto place = std::make_shared<test::MeetingPlace>();
    std::vector<std::thread> ranks;
    for (int r = 0; r < shape.stages; ++r) {
      ranks.emplace_back([&shape, &place, r] {
        Stage stage{shape, r, std::make_unique<test::ThreadNccl>(r, shape.stages, place),
                    std::make_unique<test::HostQueue>()};
        EXPECT_NO_THROW({
          for (int step = 0; step < 2; ++step) stage.executor->run(stage.exec);
        });
        expect_gradients(shape, r, stage.verbs);
        EXPECT_EQ(stage.exec.arena().plan().persistent, planned(shape, r).persistent);
      });
    }
    for (std::thread& rank : ranks) rank.join();
  });
}

/// Sender and receiver have the same messages in the same order.
TEST(MessagePlan, BothSidesNameTheSameMessages) {
  for_shapes([](const ScheduleShape& shape) {
    for (const bool forward : {false, true}) {
      std::map<std::array<int, 3>, std::vector<comm::MessageTag>> ways;  // from, to, receives
      for (int r = 0; r < shape.stages; ++r) {
        const comm::MessagePlan plan =
            forward ? forward_message_plan(shape, r) : message_plan(shape, r);
        for (const auto& tick : plan.ticks) {
          int sends = 0;
          for (const comm::PlannedMessage& m : tick) {
            sends += m.sends ? 1 : 0;
            ways[m.sends ? std::array{r, m.peer, 0} : std::array{m.peer, r, 1}].push_back(m.tag);
            EXPECT_TRUE(m.sends ? m.buffer == -1 : m.buffer >= 0 && m.buffer < plan.arrivals);
          }
          EXPECT_LE(sends, 1);
        }
      }
      for (const auto& [way, tags] : ways) {
        const std::array other{way[0], way[1], 1 - way[2]};
        EXPECT_EQ(tags, ways[other]) << way[0] << " to " << way[1];
      }
    }
  });
}

TEST(MessagePlan, NoRankNeedsManyBuffers) {
  const ScheduleShape steady{ScheduleKind::one_f_one_b, 4, 16, 1};
  for (int r = 0; r < 4; ++r) EXPECT_LE(message_plan(steady, r).arrivals, 4) << r;
  const ScheduleShape in_a_v{ScheduleKind::zbv, 4, 16, 2};
  for (int r = 0; r < 4; ++r) EXPECT_LE(message_plan(in_a_v, r).arrivals, 6) << r;
}

}  // namespace
}  // namespace shoal::pipeline
