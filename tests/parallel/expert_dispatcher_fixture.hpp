#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "expert_exchange.hpp"
#include "shoal/parallel/process_groups.hpp"

namespace shoal::parallel::test {

/// Element type, and whether host memory takes the path of device memory.
struct Variant {
  DType elem;
  bool staged;
};

/// All ranks of the world share the experts.
class ExpertDispatcherTest : public ::testing::TestWithParam<Variant> {
 protected:
  [[nodiscard]] ExpertDispatcher make(std::int64_t experts, double factor = 0.0,
                                      const TensorView& overflow = {},
                                      double capacity_factor = 0.0) const {
    return ExpertDispatcher{{.experts = experts,
                             .buffer_factor = factor,
                             .capacity_factor = capacity_factor,
                             .overflow = overflow,
                             .group = groups_.ep(),
                             .collectives = *collectives_},
                            DeviceKind::cpu};
  }
  [[nodiscard]] Inputs inputs(const Routing& r) const {
    return {exec_, r, GetParam().elem, world_.size(), world_.rank() * r.T, r.T};
  }
  [[nodiscard]] std::int64_t first_expert(const Routing& r) const {
    return r.E / world_.size() * world_.rank();
  }
  /// In half precision each of the up to K partial sums of a token is rounded once more.
  [[nodiscard]] Tolerance close_to_one_rank(const Routing& r) const {
    Tolerance close = tolerance(GetParam().elem, r.K);
    if (GetParam().elem == DType::bf16) {
      const auto partials = static_cast<double>(std::min<std::int64_t>(r.K, world_.size()));
      close.relative += partials * 0x1p-8;
      close.global += partials * 0x1p-9;
    }
    return close;
  }
  /// Outputs of this rank as one rank with everything has them.
  [[nodiscard]] Outputs expected(const Routing& r) const {
    const Outputs all = one_rank(exec_, r, GetParam().elem, world_.size());
    const std::int64_t here = r.E / world_.size(), first = here * world_.rank();
    Outputs mine;
    for (std::int64_t e = first; e <= first + here; ++e) {
      mine.offset.push_back(all.offset[e] - all.offset[first]);
    }
    const auto cut = [](const std::vector<float>& from, std::int64_t begin, std::int64_t count) {
      return std::vector<float>{from.begin() + begin, from.begin() + begin + count};
    };
    const auto row = [](float offset) { return static_cast<std::int64_t>(offset); };
    const std::int64_t before = r.T * world_.rank();
    mine.rows = cut(all.rows, row(all.offset[first]) * r.D, row(mine.offset.back()) * r.D);
    mine.y = cut(all.y, before * r.D, r.T * r.D);
    mine.dx = cut(all.dx, before * r.D, r.T * r.D);
    mine.dweight = cut(all.dweight, before * r.K, r.T * r.K);
    return mine;
  }
  void expect_like_one_rank(const Outputs& got, const Routing& r) const {
    const Outputs want = expected(r);
    const Tolerance close = close_to_one_rank(r);
    EXPECT_EQ(got.offset, want.offset);
    EXPECT_TRUE(all_equal(got.rows, want.rows));
    EXPECT_TRUE(all_near(got.y, want.y, close));
    EXPECT_TRUE(all_near(got.dx, want.dx, close));
    EXPECT_TRUE(all_equal(got.dweight, want.dweight));
  }
  /// Of a routing with one copy a token: its results are right, or it contributed nothing.
  void expect_whole_or_cut_off(const Outputs& got, const Inputs& in, const Routing& r) const {
    const Outputs want = expected(r);
    const auto add = download_floats(exec_, in.mine(in.add));
    const Tolerance close = close_to_one_rank(r);
    const auto part = [](const std::vector<float>& all, std::int64_t t, std::int64_t width) {
      return std::vector<float>{all.begin() + t * width, all.begin() + (t + 1) * width};
    };
    int cut_off = 0;
    for (std::int64_t t = 0; t < r.T; ++t) {
      const auto dweight = part(got.dweight, t, r.K);
      const bool cut = std::count(dweight.begin(), dweight.end(), 0.0F) == r.K;
      cut_off += cut ? 1 : 0;
      EXPECT_TRUE(cut || all_equal(dweight, part(want.dweight, t, r.K)));
      EXPECT_TRUE(all_near(part(got.y, t, r.D), part(cut ? add : want.y, t, r.D), close));
      EXPECT_TRUE(all_near(part(got.dx, t, r.D), part(cut ? add : want.dx, t, r.D), close));
    }
    EXPECT_GT(cut_off, 0);
    EXPECT_LT(cut_off, r.T);
  }
  [[nodiscard]] std::int64_t bytes_sent() const {
    return world_.journal()->traffic(comm::Operation::all_to_all_v).bytes;
  }

  const Communicator world_ = Communicator::world();
  const ProcessGroups groups_{world_, {.ep = world_.size()}};
  const Exec exec_ = make_exec(DeviceKind::cpu, 16);
  const std::unique_ptr<comm::TensorCollectives> collectives_ = comm::make_host_collectives(
      groups_.ep(), DeviceKind::cpu, {.staging_bytes = 1024, .always_stage = GetParam().staged});
};

}  // namespace shoal::parallel::test
