#include "shoal/comm/communicator.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "shoal/base/error.hpp"
#include "shoal/base/philox.hpp"

namespace shoal::comm {
namespace {

[[nodiscard]] std::vector<float> values_of(int rank, std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(philox::normal(philox::block(
        static_cast<std::uint64_t>(rank), philox::Purpose::test, static_cast<std::uint64_t>(i))));
  }
  return values;
}

TEST(Communicator, BroadcastsFromEveryRoot) {
  const auto world = Communicator::world();
  for (int root = 0; root < world.size(); ++root) {
    std::vector<std::int32_t> data(5, world.rank() == root ? 40 + root : -1);
    world.broadcast(data, root);
    EXPECT_EQ(data, std::vector<std::int32_t>(5, 40 + root));
  }
}

class AllReduceSizes : public ::testing::TestWithParam<std::int64_t> {};

// Bits, not tolerances: the sum runs in rank order whatever the size and the path it takes.
TEST_P(AllReduceSizes, SumsInRankOrderBitForBit) {
  const auto world = Communicator::world();
  std::vector<float> data = values_of(world.rank(), GetParam());
  world.all_reduce(data, ReduceOp::sum);
  std::vector<float> expected = values_of(0, GetParam());
  for (int r = 1; r < world.size(); ++r) {
    const auto other = values_of(r, GetParam());
    for (std::size_t i = 0; i < other.size(); ++i) expected[i] += other[i];
  }
  EXPECT_EQ(data, expected);
}
// None, one, fewer than ranks, primes, the small path's limit, and more than one chunk.
INSTANTIATE_TEST_SUITE_P(Sizes, AllReduceSizes,
                         ::testing::Values(0, 1, 3, 509, 4097, 65537, 1048583, 1300021));

TEST(Communicator, ReducesMaxAndMin) {
  const auto world = Communicator::world();
  EXPECT_EQ(world.all_reduce_value<std::int64_t>(world.rank(), ReduceOp::max), world.size() - 1);
  EXPECT_EQ(world.all_reduce_value(1.5 - world.rank(), ReduceOp::min), 2.5 - world.size());
  EXPECT_EQ(world.all_reduce_value<std::uint64_t>(1ULL << 60, ReduceOp::sum),
            (1ULL << 60) * static_cast<std::uint64_t>(world.size()));
}

TEST(Communicator, NotANumberSurvivesMaxAndMin) {
  const auto world = Communicator::world();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float mine = world.rank() == world.size() - 1 ? nan : 1.0F;
  EXPECT_TRUE(std::isnan(world.all_reduce_value(mine, ReduceOp::max)));
  EXPECT_TRUE(std::isnan(world.all_reduce_value(mine, ReduceOp::min)));
}

// 1 + n * 2^-8 rounds to 1 after each bf16 addition; only an fp32 sum sees the small terms.
TEST(Communicator, HalfPrecisionIsSummedInSinglePrecision) {
  const auto world = Communicator::world();
  std::uint16_t bits = world.rank() == 0 ? 0x3F80 : 0x3B80;  // 1, 2^-8
  world.all_reduce_bytes(std::as_writable_bytes(std::span{&bits, 1}), ElementType::bf16,
                         ReduceOp::sum);
  const float expected = 1.0F + static_cast<float>(world.size() - 1) * 0x1p-8F;
  std::uint32_t wide = std::uint32_t{bits} << 16;
  float value = 0.0F;
  std::memcpy(&value, &wide, sizeof value);
  EXPECT_NEAR(value, expected, 0x1p-8F);
  if (world.size() == 4) {
    EXPECT_EQ(bits, 0x3F82);  // 1 + 3/256, a tie rounded to even
  }

  std::uint16_t half = 0x3C00;  // 1 in fp16
  world.all_reduce_bytes(std::as_writable_bytes(std::span{&half, 1}), ElementType::f16,
                         ReduceOp::sum);
  const std::uint16_t sums[] = {0, 0x3C00, 0x4000, 0x4200, 0x4400};
  EXPECT_EQ(half, sums[world.size()]);
}

class ReduceScatterSizes : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(ReduceScatterSizes, GivesEachRankItsBlockOfTheSum) {
  const auto world = Communicator::world();
  const std::int64_t block = GetParam();
  const auto send = values_of(world.rank(), block * world.size());
  std::vector<float> recv(static_cast<std::size_t>(block)), all = send;
  world.reduce_scatter_bytes(std::as_bytes(std::span{send}),
                             std::as_writable_bytes(std::span{recv}), ElementType::f32,
                             ReduceOp::sum);
  world.all_reduce(all, ReduceOp::sum);
  const auto first = all.begin() + world.rank() * block;
  EXPECT_TRUE(std::equal(recv.begin(), recv.end(), first));
}
INSTANTIATE_TEST_SUITE_P(Sizes, ReduceScatterSizes, ::testing::Values(0, 1, 31, 700001));

TEST(Communicator, GathersEqualAndUnequalParts) {
  const auto world = Communicator::world();
  const auto ranks = world.all_gather_value(world.rank());
  const std::vector<double> mine(static_cast<std::size_t>(world.rank()), world.rank());
  std::vector<double> expected;
  for (int r = 0; r < world.size(); ++r) {
    EXPECT_EQ(ranks[static_cast<std::size_t>(r)], r);
    expected.insert(expected.end(), static_cast<std::size_t>(r), r);
  }
  EXPECT_EQ(world.all_gather_v(mine), expected);
  const int root = world.size() - 1;
  EXPECT_EQ(world.gather_v(mine, root), world.rank() == root ? expected : std::vector<double>{});
}

// Rank s sends (s + 1) * (d + 1) - 1 values to rank d: empty blocks and uneven ones.
TEST(Communicator, ExchangesUnevenBlocks) {
  const auto world = Communicator::world();
  const auto count = [](int s, int d) { return std::int64_t{(s + 1) * (d + 1) - 1}; };
  std::vector<std::int64_t> send_counts, recv_counts;
  std::vector<std::int32_t> send, expected;
  for (int r = 0; r < world.size(); ++r) {
    send_counts.push_back(count(world.rank(), r));
    recv_counts.push_back(count(r, world.rank()));
    send.insert(send.end(), static_cast<std::size_t>(send_counts.back()), world.rank() * 100 + r);
    expected.insert(expected.end(), static_cast<std::size_t>(recv_counts.back()),
                    r * 100 + world.rank());
  }
  std::vector<std::int32_t> recv(expected.size());
  world.all_to_all_v<std::int32_t>(
      {.send = send, .send_counts = send_counts, .recv = recv, .recv_counts = recv_counts});
  EXPECT_EQ(recv, expected);
}

TEST(Communicator, ExchangesEqualBlocks) {
  const auto world = Communicator::world();
  std::vector<std::uint32_t> send(static_cast<std::size_t>(world.size()) * 2), recv = send;
  for (std::size_t i = 0; i < send.size(); ++i) {
    send[i] = static_cast<std::uint32_t>(world.rank() * 1000) + static_cast<std::uint32_t>(i);
  }
  world.all_to_all(send, recv);
  for (std::size_t i = 0; i < recv.size(); ++i) {
    EXPECT_EQ(recv[i], i / 2 * 1000 + static_cast<std::size_t>(world.rank()) * 2 + i % 2);
  }
}

TEST(Communicator, SendsAroundTheRing) {
  const auto world = Communicator::world();
  const int next = (world.rank() + 1) % world.size();
  const int last = (world.rank() + world.size() - 1) % world.size();
  const std::vector<std::int64_t> mine(3, world.rank());
  std::vector<std::int64_t> theirs(3);
  world.send_recv_bytes(
      {std::as_bytes(std::span{mine}), next, std::as_writable_bytes(std::span{theirs}), last});
  EXPECT_EQ(theirs, std::vector<std::int64_t>(3, last));
}

TEST(Communicator, SendsBetweenTwoRanks) {
  const auto world = Communicator::world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  std::vector<float> data{1.0F, 2.0F};
  if (world.rank() == 0) world.send(data, 1);
  if (world.rank() == 1) {
    std::vector<float> got(2);
    world.recv(got, 0);
    EXPECT_EQ(got, data);
  }
}

TEST(Communicator, SplitsIntoGroupsOrderedByKey) {
  const auto world = Communicator::world();
  const auto group = world.split({.color = world.rank() % 2, .key = -world.rank(), .name = "odd"});
  const int members = (world.size() + 1 - world.rank() % 2) / 2;
  EXPECT_EQ(group.size(), members);
  EXPECT_EQ(group.rank(), members - 1 - world.rank() / 2);
  EXPECT_EQ(group.all_reduce_value(1, ReduceOp::sum), members);
  EXPECT_EQ(group.journal(), world.journal());
}

TEST(Communicator, SharesStrings) {
  const auto world = Communicator::world();
  EXPECT_EQ(world.broadcast_string(world.is_root() ? "tok\0en" : "", 0), "tok");
  const std::string mine(static_cast<std::size_t>(world.rank()), 'x');
  const auto all = world.all_gather_strings(mine);
  ASSERT_EQ(std::ssize(all), world.size());
  for (std::size_t r = 0; r < all.size(); ++r) EXPECT_EQ(all[r], std::string(r, 'x'));
  EXPECT_EQ(std::ssize(world.gather_strings(mine, 0)), world.is_root() ? world.size() : 0);
}

TEST(Communicator, AGroupOfOneCopies) {
  const auto self = Communicator::self();
  std::vector<float> data{3.0F, 4.0F}, copy(2);
  self.all_reduce(data, ReduceOp::sum);
  self.all_gather(data, copy);
  EXPECT_EQ(copy, (std::vector<float>{3.0F, 4.0F}));
  EXPECT_EQ(self.all_gather_v(copy), copy);
  EXPECT_THROW(self.send(data, 0), Error);
}

TEST(Communicator, WrongSizesStopAtTheGate) {
  const auto world = Communicator::world();
  std::vector<float> send(3), recv(3 * static_cast<std::size_t>(world.size()) + 1);
  EXPECT_THROW(world.all_gather(send, recv), Error);
  EXPECT_THROW(world.broadcast(send, world.size()), Error);
  EXPECT_EQ(world.journal()->entries().size(), 0U);
}

TEST(Communicator, VerificationNamesTheRankThatDisagrees) {
  const auto world = Communicator::world({.verify_sizes = true});
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  std::vector<float> data(world.rank() == 1 ? 2 : 1);
  try {
    world.all_reduce(data, ReduceOp::sum);
    ADD_FAILURE() << "sizes differ, but nothing was thrown";
  } catch (const Error& error) {
    EXPECT_NE(std::string{error.what()}.find("8 bytes"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace shoal::comm
