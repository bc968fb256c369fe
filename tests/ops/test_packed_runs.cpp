#include "shoal/ops/packed_runs.hpp"

#include "ops/both_devices.hpp"

namespace shoal::ops {
namespace {

class PackedRunsTest : public test::BothDevices {};

/// The table on the device; `cut_runs` made it.
Tensor upload_runs(const Exec& exec, const std::vector<PackedRun>& runs) {
  const auto bytes = static_cast<std::int64_t>(runs.size() * sizeof(PackedRun));
  Tensor table{exec.device(), {bytes}, DType::u8};
  upload(exec, table.view().bytes_begin(), runs.data(), bytes);
  exec.synchronize();
  return table;
}

const std::vector<PackedRun> kRuns = {{.flat = 5, .packed = 40000, .count = 7},
                                      {.flat = 64, .packed = 0, .count = 40000},
                                      {.flat = 40100, .packed = 40010, .count = 16},
                                      {.flat = 40200, .packed = 40030, .count = 0}};
constexpr std::int64_t kFlat = 40300, kPacked = 40064;

TEST_P(PackedRunsTest, PackThenUnpackBringsEveryRunBackAndTouchesNothingElse) {
  const Tensor table = upload_runs(exec_, cut_runs(kRuns));
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor flat = test::normal(exec_, {kFlat}, dtype, 1);
    const Tensor packed = test::normal(exec_, {kPacked}, dtype, 2);
    const Tensor back = test::normal(exec_, {kFlat}, dtype, 3);
    const auto source = download_floats(exec_, flat);
    auto want_packed = download_floats(exec_, packed);
    auto want_back = download_floats(exec_, back);
    for (const PackedRun& run : kRuns) {
      for (std::int64_t i = 0; i < run.count; ++i) {
        const auto at = static_cast<std::size_t>(run.flat + i);
        want_packed[static_cast<std::size_t>(run.packed + i)] = source[at];
        want_back[at] = source[at];
      }
    }
    pack_runs(exec_, {.to = packed, .from = flat, .runs = table});
    unpack_runs(exec_, {.to = back, .from = packed, .runs = table});
    EXPECT_TRUE(test::all_equal(download_floats(exec_, packed), want_packed));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, back), want_back));
  }
}

TEST_P(PackedRunsTest, OtherDtypesRoundToNearest) {
  const std::vector<PackedRun> runs = cut_runs(std::vector<PackedRun>{{0, 0, 1000}});
  const Tensor table = upload_runs(exec_, runs);
  const Tensor flat = test::normal(exec_, {1000}, DType::f32, 4);
  const Tensor packed = test::normal(exec_, {1000}, DType::bf16, 5);
  pack_runs(exec_, {.to = packed, .from = flat, .runs = table});
  auto want = download_floats(exec_, flat);
  for (float& x : want) x = to_float(from_float<Bf16>(x));
  EXPECT_TRUE(test::all_equal(download_floats(exec_, packed), want));
  unpack_runs(exec_, {.to = flat, .from = packed, .runs = table});
  EXPECT_TRUE(test::all_equal(download_floats(exec_, flat), want));
}

TEST_P(PackedRunsTest, RejectsABrokenTable) {
  const Tensor x = test::normal(exec_, {8}, DType::f32, 4);
  const Tensor table{exec_.device(), {sizeof(PackedRun) - 1}, DType::u8};
  EXPECT_THROW(pack_runs(exec_, {.to = x, .from = x, .runs = table}), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, PackedRunsTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
