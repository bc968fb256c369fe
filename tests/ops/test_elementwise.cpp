#include "shoal/ops/elementwise.hpp"

#include <numeric>

#include "ops/both_devices.hpp"
#include "ops/parity.hpp"

namespace shoal::ops {
namespace {

using test::values;
using Values = std::vector<float>;

const std::vector<std::int64_t> kSizes = {0, 1, 3, 4, 31, 32, 33, 257, 1021, 40000};
constexpr std::array<DType, 3> kFloating = {DType::f32, DType::bf16, DType::f16};

using ElementwiseTest = test::BothDevices;

TEST_P(ElementwiseTest, CastRoundsToNearestEven) {
  const Exec host = test::make_exec(DeviceKind::cpu, 1);
  for (const DType from : kFloating) {
    for (const DType to : kFloating) {
      for (const std::int64_t n : kSizes) {
        const Values x = values(n, 1, from);
        const Tensor source = test::from_values(exec_, {n}, from, x);
        const Tensor target = test::poisoned(exec_, {n}, to);
        cast(exec_, target, source);
        const Tensor want = test::from_values(host, {n}, to, x);
        EXPECT_TRUE(test::all_equal(download_floats(exec_, target), download_floats(host, want)))
            << name(from) << " to " << name(to) << ", n = " << n;
      }
    }
  }
}

TEST_P(ElementwiseTest, AddMayWriteOverAnOperand) {
  const Exec host = test::make_exec(DeviceKind::cpu, 1);
  for (const DType dtype : kFloating) {
    for (const std::int64_t n : kSizes) {
      const Values a = values(n, 1, dtype), b = values(n, 2, dtype);
      Values sum(a.size());
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = a[i] + b[i];
      const Values want = download_floats(host, test::from_values(host, {n}, dtype, sum));
      const Tensor y = test::poisoned(exec_, {n}, dtype);
      const Tensor a_view = test::from_values(exec_, {n}, dtype, a);
      const Tensor b_view = test::from_values(exec_, {n}, dtype, b);
      add(exec_, y, a_view, b_view);
      add(exec_, a_view, a_view, b_view);
      EXPECT_TRUE(test::all_equal(download_floats(exec_, y), want)) << name(dtype) << " n " << n;
      EXPECT_TRUE(test::all_equal(download_floats(exec_, a_view), want));
    }
  }
}

TEST_P(ElementwiseTest, AxpyAddsAMultiple) {
  for (const std::int64_t n : kSizes) {
    const Values x = values(n, 1);
    Values want = values(n, 2);
    const Tensor y = test::from_values(exec_, {n}, DType::f32, want);
    axpy(exec_, y, test::from_values(exec_, {n}, DType::f32, x), -0.25F);
    for (std::size_t i = 0; i < x.size(); ++i) want[i] -= 0.25F * x[i];
    EXPECT_TRUE(test::all_near(download_floats(exec_, y), want, test::tolerance(DType::f32)))
        << "n = " << n;
  }
}

TEST_P(ElementwiseTest, FillSetsEveryElement) {
  for (const std::int64_t n : kSizes) {
    const Tensor floats = test::poisoned(exec_, {n}, DType::f32);
    const Tensor ints = test::poisoned(exec_, {n}, DType::i32);
    fill(exec_, floats, -2.5F);
    fill(exec_, ints, 7.0F);
    const auto size = static_cast<std::size_t>(n);
    EXPECT_EQ(download_floats(exec_, floats), Values(size, -2.5F));
    EXPECT_EQ(download_floats(exec_, ints), Values(size, 7.0F));
  }
}

TEST_P(ElementwiseTest, UnalignedViewsTakeTheScalarPath) {
  const Values x = values(101, 1, DType::bf16);
  const Tensor source = test::from_values(exec_, {101}, DType::bf16, x);
  const Tensor y = test::poisoned(exec_, {101}, DType::bf16);
  const ConstTensorView tail = ConstTensorView{source}.rows(1, 100);
  add(exec_, y.view().rows(1, 100), tail, tail);
  const Values got = download_floats(exec_, y);
  EXPECT_NE(got[0], got[0]);  // still poison
  for (std::size_t i = 1; i < 101; ++i) EXPECT_EQ(got[i], 2.0F * x[i]) << i;
}

TEST_P(ElementwiseTest, SumIsTheSameInEveryRun) {
  for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{63}, std::int64_t{65},
                               std::int64_t{16411}, std::int64_t{300007}}) {
    Values x = values(n, 1);
    for (float& v : x) v += 1.0F;
    const double want = std::accumulate(x.begin(), x.end(), 0.0);
    const Tensor x_view = test::from_values(exec_, {n}, DType::f32, x);
    const Tensor out = test::poisoned(exec_, {1}, DType::f32);
    const Tensor again = test::poisoned(exec_, {1}, DType::f32);
    sum(exec_, out, x_view);
    sum(exec_, again, x_view);
    EXPECT_NEAR(download_floats(exec_, out)[0], want, 1e-6 * want) << "n = " << n;
    EXPECT_TRUE(test::all_equal(download_floats(exec_, again), download_floats(exec_, out)));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, ElementwiseTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
