#include "shoal/comm/transport_choice.hpp"

#include <gtest/gtest.h>

#include "comm/nccl_pinning.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/collectives_factory.hpp"
#include "shoal/tensor/tensor.hpp"
#include "support/throws.hpp"

namespace shoal::comm {
namespace {

using test::throws_with;

const std::vector<RankPlace> kOwnGpus{{"a", "0"}, {"a", "1"}, {"b", "0"}, {"b", "1"}};
const std::vector<RankPlace> kSharedGpu{{"a", "0"}, {"b", "0"}, {"b", "1"}, {"b", "0"}};

TEST(TransportChoice, NcclWhereEveryRankHasItsOwnGpu) {
  const auto chosen =
      choose_transport(TransportChoice::automatic,
                       {.device = DeviceKind::cuda, .places = kOwnGpus, .has_nccl = true});
  EXPECT_EQ(chosen.kind, TransportKind::nccl);
  EXPECT_EQ(chosen.reason, "every rank has a GPU of its own");
}

TEST(TransportChoice, MpiOtherwiseAndItSaysWhy) {
  const auto choose = [](const TransportFacts& facts) {
    const auto chosen = choose_transport(TransportChoice::automatic, facts);
    EXPECT_EQ(chosen.kind, TransportKind::mpi);
    return chosen.reason;
  };
  EXPECT_EQ(choose({.device = DeviceKind::cpu, .places = kOwnGpus, .has_nccl = true}),
            "the tensors are in host memory");
  EXPECT_EQ(choose({.device = DeviceKind::cuda, .places = kOwnGpus, .has_nccl = false}),
            "this build has no NCCL");
  EXPECT_EQ(choose({.device = DeviceKind::cuda, .places = kSharedGpu, .has_nccl = true}),
            "ranks 1 and 3 share GPU 0 of b");
}

TEST(TransportChoice, AForcedChoiceThatCannotWorkIsAnInputError) {
  const auto force = [](const TransportFacts& facts) {
    return [facts] { (void)choose_transport(TransportChoice::nccl, facts); };
  };
  EXPECT_TRUE(throws_with<InputError>(
      force({.device = DeviceKind::cuda, .places = kSharedGpu, .has_nccl = true}),
      "parallel.comm = nccl: ranks 1 and 3 share GPU 0 of b"));
  EXPECT_TRUE(throws_with<InputError>(
      force({.device = DeviceKind::cuda, .places = kOwnGpus, .has_nccl = false}),
      "this build has no NCCL"));
  const auto forced = choose_transport(
      TransportChoice::mpi, {.device = DeviceKind::cuda, .places = kOwnGpus, .has_nccl = true});
  EXPECT_EQ(forced.kind, TransportKind::mpi);
}

TEST(TransportChoice, ReadsTheKey) {
  EXPECT_EQ(parse_transport_choice("auto"), TransportChoice::automatic);
  EXPECT_EQ(parse_transport_choice("nccl"), TransportChoice::nccl);
  EXPECT_EQ(parse_transport_choice("mpi"), TransportChoice::mpi);
  EXPECT_TRUE(throws_with<InputError>([] { (void)parse_transport_choice("ucx"); },
                                      "parallel.comm = ucx: allowed: auto nccl mpi"));
}

TEST(NcclPinning, LeavesTheUsersChoiceAlone) {
  ::unsetenv("NCCL_ALGO");
  ::unsetenv("NCCL_PROTO");
  EXPECT_EQ(describe(pin_nccl()), "algorithm Ring, protocol Simple (pinned)");
  ::setenv("NCCL_ALGO", "Tree", 1);
  EXPECT_EQ(describe(pin_nccl()), "algorithm Tree, protocol Simple (from the environment)");
  ::unsetenv("NCCL_ALGO");
  ::unsetenv("NCCL_PROTO");
}

TEST(CollectivesFactory, ServesEveryGroupOverOneTransport) {
  const auto world = Communicator::world();
  const auto half = world.split({.color = world.rank() % 2, .name = "half"});
  const CollectivesFactory factory{world, DeviceKind::cpu};
  EXPECT_EQ(factory.kind(), TransportKind::mpi);
  EXPECT_EQ(factory.describe(), "MPI: the tensors are in host memory");
  const Exec exec{DeviceKind::cpu, ArenaPlan{}};
  for (const Communicator* group : {&world, &half}) {
    const auto collectives = factory.make(*group);
    const Tensor data{DeviceKind::cpu, {3}, DType::i32};
    std::fill_n(data.view().data<std::int32_t>(), 3, 1);
    collectives->all_reduce(exec, data, ReduceOp::sum);
    EXPECT_EQ(data.view().data<std::int32_t>()[2], group->size());
  }
}

TEST(CollectivesFactory, RanksMustMakeTheSameGroups) {
  const auto world = Communicator::world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  const auto half = world.split({.color = 0, .name = world.rank() == 1 ? "tp" : "dp"});
  const CollectivesFactory factory{world, DeviceKind::cpu};
  EXPECT_TRUE(throws_with<Error>([&] { (void)factory.make(half); },
                                 world.rank() == 1 ? "for \"tp\" on rank 1 and for \"dp\" on rank 0"
                                                   : "and for \"tp\" on rank 1"));
}

TEST(CollectivesFactory, GroupsOnPaperNeedNobody) {
  const auto world = Communicator::on_paper(3, 8);
  const CollectivesFactory factory{world, DeviceKind::cuda, {.choice = TransportChoice::nccl}};
  EXPECT_EQ(factory.make(world)->size(), 8);
}

TEST(CollectivesFactory, NcclWithoutAGpuIsAnInputError) {
  const auto world = Communicator::world();
  EXPECT_TRUE(throws_with<InputError>(
      [&] {
        const CollectivesFactory factory{world, DeviceKind::cpu, {.choice = TransportChoice::nccl}};
      },
      "the tensors are in host memory"));
}

}  // namespace
}  // namespace shoal::comm
