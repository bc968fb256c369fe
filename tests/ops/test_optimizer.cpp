#include "shoal/ops/optimizer.hpp"

#include "ops/optimizer_golden.hpp"
#include "ops/optimizer_support.hpp"

namespace shoal::ops {
namespace {

using test::golden_gradient;
using test::golden_settings;
using test::golden_state;
using test::good_state;
using test::kAllKinds;
using test::kBeta1;
using test::kBeta2;
using test::mu_schedule;
using test::Parameters;

class OptimizerTest : public test::BothDevices {};

/// Reference values of all parameters of a set after `steps` updates.
std::vector<OptimizerScalars> reference_of(const Exec& exec, const Parameters& p) {
  const auto w = p.weights(exec), m = download_floats(exec, p.m), v = download_floats(exec, p.v),
             u = download_floats(exec, p.u);
  std::vector<OptimizerScalars> out;
  for (std::size_t i = 0; i < w.size(); ++i) out.push_back({w[i], m[i], v[i], u[i]});
  return out;
}

void expect_follows_reference(const Exec& exec, std::int64_t N, const OptimizerUpdate& args,
                              DType dtype, DType moments) {
  SCOPED_TRACE(test::name(args.kind) + " N" + std::to_string(N) + " " + std::string{name(dtype)} +
               " moments " + std::string{name(moments)});
  const Parameters p{exec, N, dtype, moments};
  // The rounding of bf16 moments is random: one step shows the formula, more would drift apart.
  const int steps = moments == DType::bf16 ? 1 : 8;
  std::vector<OptimizerScalars> want = reference_of(exec, p);
  for (int t = 1; t <= steps; ++t) {
    StepState state = good_state(t, mu_schedule(10), kBeta1, kBeta2, 0.01F);
    state.grad_factor = 0.75F;
    const Tensor grad = test::normal(exec, {N}, DType::f32, 30 + t);
    p.update(exec, args, grad, state);
    const auto g = download_floats(exec, grad);
    for (std::size_t i = 0; i < want.size(); ++i) {
      want[i] = optimizer_reference(args, state, want[i], g[i]);
    }
  }
  const auto pick = [&](double OptimizerScalars::*field) {
    std::vector<float> out;
    for (const OptimizerScalars& x : want) out.push_back(static_cast<float>(x.*field));
    return out;
  };
  const test::Tolerance exact{.relative = 3e-6, .global = 1e-6};
  const test::Tolerance rounded{.relative = 0x1p-7, .global = 0x1p-7};
  const test::Tolerance& state_tolerance = moments == DType::bf16 ? rounded : exact;
  EXPECT_TRUE(test::all_near(p.weights(exec), pick(&OptimizerScalars::p), exact));
  EXPECT_TRUE(test::all_near(download_floats(exec, p.value), pick(&OptimizerScalars::p),
                             test::tolerance(dtype)));
  EXPECT_TRUE(
      test::all_near(download_floats(exec, p.m), pick(&OptimizerScalars::m), state_tolerance));
  EXPECT_TRUE(test::all_near(download_floats(exec, p.v), pick(&OptimizerScalars::v), exact));
  EXPECT_TRUE(
      test::all_near(download_floats(exec, p.u), pick(&OptimizerScalars::u), state_tolerance));
}

TEST_P(OptimizerTest, UpdateFollowsTheReference) {
  for (const OptimizerKind kind : kAllKinds) {
    const OptimizerUpdate args{.kind = kind, .nu = 0.25F, .weight_decay = 0.1F};
    for (const std::int64_t N : {0, 1, 3, 31, 1024, 1027}) {
      expect_follows_reference(exec_, N, args, DType::f32, DType::f32);
    }
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      expect_follows_reference(exec_, 521, args, dtype, DType::f32);
      expect_follows_reference(exec_, 521, args, dtype, DType::bf16);
      expect_follows_reference(exec_, 520, args, dtype, DType::bf16);
    }
  }
}

TEST_P(OptimizerTest, AdamWEqualsPyTorchToRounding) {
  const std::vector<float> start(test::kAdamWStart.begin(), test::kAdamWStart.end());
  const Parameters p{exec_, 5, DType::f32, DType::f32, true};
  upload_values(exec_, p.value, start);
  int step = 0;
  for (const test::AdamWGolden& golden : test::kAdamWGolden) {
    for (; step < golden.steps; ++step) {
      std::vector<float> g;
      for (std::size_t i = 0; i < 5; ++i) g.push_back(static_cast<float>(golden_gradient(step, i)));
      p.update(exec_, golden_settings(OptimizerKind::adamw),
               test::from_values(exec_, {5}, DType::f32, g), golden_state(step + 1));
    }
    EXPECT_TRUE(test::all_near(p.weights(exec_), {golden.p.begin(), golden.p.end()},
                               {.relative = 2e-6, .global = 1e-6}));
  }
}

TEST_P(OptimizerTest, AmfWithoutItsSecondFilterIsAdamWBitForBit) {
  for (const DType moments : {DType::f32, DType::bf16}) {
    const Parameters amf{exec_, 1027, DType::bf16, moments},
        adamw{exec_, 1027, DType::bf16, moments};
    const auto u = download_floats(exec_, amf.u);
    for (int t = 1; t <= 60; ++t) {
      const StepState state = good_state(t, mu_schedule(60), kBeta1, kBeta2, 0.003F);
      const Tensor grad = test::normal(exec_, {1027}, DType::f32, 50 + t);
      amf.update(exec_, {.kind = OptimizerKind::amf, .nu = 0.0F, .weight_decay = 0.1F}, grad,
                 state);
      adamw.update(exec_, {.kind = OptimizerKind::adamw, .weight_decay = 0.1F}, grad, state);
    }
    EXPECT_TRUE(test::all_equal(amf.weights(exec_), adamw.weights(exec_)));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, amf.m), download_floats(exec_, adamw.m)));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, amf.v), download_floats(exec_, adamw.v)));
    EXPECT_TRUE(test::all_equal(download_floats(exec_, amf.u), u)) << "u must not be written";
  }
}

TEST_P(OptimizerTest, AmfWithoutItsSecondFilterNeedsNoU) {
  const Parameters p{exec_, 8, DType::f32, DType::f32};
  const Tensor grad = test::normal(exec_, {8}, DType::f32, 1);
  const Tensor state =
      test::upload_state(exec_, good_state(1, mu_schedule(1), kBeta1, kBeta2, 0.1F));
  OptimizerUpdate args{.value = p.value, .grad = grad, .m = p.m, .v = p.v, .state = state};
  EXPECT_THROW(optimizer_update(exec_, args), Error) << "with nu > 0, u is missing";
  args.nu = 0.0F;
  EXPECT_NO_THROW(optimizer_update(exec_, args));
  exec_.synchronize();
}

TEST_P(OptimizerTest, SkipLeavesEverythingUntouched) {
  for (const OptimizerKind kind : kAllKinds) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Parameters p{exec_, 67, dtype, DType::bf16}, before{exec_, 67, dtype, DType::bf16};
      StepState state = good_state(3, mu_schedule(3), kBeta1, kBeta2, 0.1F);
      state.skip = 1;
      p.update(exec_, {.kind = kind},
               test::from_values(exec_, {67}, DType::f32, std::vector<float>(67, NAN)), state);
      const auto same = [&](const Tensor& a, const Tensor& b) {
        return test::all_equal(download_floats(exec_, a), download_floats(exec_, b));
      };
      EXPECT_TRUE(same(p.value, before.value) && same(p.master, before.master));
      EXPECT_TRUE(same(p.m, before.m) && same(p.v, before.v) && same(p.u, before.u));
      EXPECT_TRUE(dtype != DType::bf16 || same(p.low, before.low));
    }
  }
}

/// Views of elements [begin, begin + count) of a parameter set.
OptimizerUpdate part_of(const Parameters& p, const Tensor& grad, std::int64_t begin,
                        std::int64_t count) {
  return {.value = p.value.view().rows(begin, count),
          .low = p.low.view().rows(begin, count),
          .grad = grad.view().rows(begin, count),
          .m = p.m.view().rows(begin, count),
          .v = p.v.view().rows(begin, count),
          .u = p.u.view().rows(begin, count),
          .first = (std::int64_t{1} << 40) + begin};
}

TEST_P(OptimizerTest, AnySplitGivesTheSameBits) {
  const Parameters whole{exec_, 1000, DType::bf16, DType::bf16},
      split{exec_, 1000, DType::bf16, DType::bf16};
  const Tensor grad = test::normal(exec_, {1000}, DType::f32, 61);
  const Tensor state =
      test::upload_state(exec_, good_state(1, mu_schedule(1), kBeta1, kBeta2, 0.1F));
  const auto update = [&](OptimizerUpdate part) {
    part.state = state;
    optimizer_update(exec_, part);
  };
  update(part_of(whole, grad, 0, 1000));
  for (const auto& [begin, count] : {std::pair{0, 3}, {3, 1}, {4, 333}, {337, 663}}) {
    update(part_of(split, grad, begin, count));
  }
  EXPECT_TRUE(test::all_equal(whole.weights(exec_), split.weights(exec_)));
  EXPECT_TRUE(test::all_equal(download_floats(exec_, whole.m), download_floats(exec_, split.m)));
  EXPECT_TRUE(test::all_equal(download_floats(exec_, whole.u), download_floats(exec_, split.u)));
}

constexpr std::int64_t kSegmentedCount = 40000;
const std::vector<UpdateSegment> kSegments = {
    {.value = 8, .state = 30000, .count = 100, .first = 7, .stream = 3},
    {.value = 200, .state = 0, .count = 20001, .first = 0, .stream = 0, .decay = 0}};

OptimizerUpdate all_of(const Parameters& p, const Tensor& grad, const Tensor& state) {
  return {.value = p.value,
          .low = p.low,
          .master = p.master,
          .grad = grad,
          .m = p.m,
          .v = p.v,
          .u = p.u,
          .state = state,
          .weight_decay = 0.1F};
}

/// Brings the states of every segment from where its values lie to where the table says.
void move_states(const Exec& exec, const Parameters& from, const Parameters& to) {
  for (const auto member :
       {&Parameters::low, &Parameters::master, &Parameters::m, &Parameters::v, &Parameters::u}) {
    for (const UpdateSegment& s : kSegments) {
      const TensorView target = (to.*member).view().rows(s.state, s.count);
      copy(exec, target.bytes_begin(), (from.*member).view().rows(s.value, s.count).bytes_begin(),
           target.bytes());
    }
  }
}

/// The update of one segment by itself, where it lies.
OptimizerUpdate only(OptimizerUpdate all, const UpdateSegment& s) {
  for (TensorView* view : {&all.value, &all.low, &all.master, &all.m, &all.v, &all.u}) {
    *view = view->rows(s.value, s.count);
  }
  all.grad = all.grad.rows(s.value, s.count);
  if (s.decay == 0) all.weight_decay = 0.0F;
  return all;
}

TEST_P(OptimizerTest, SegmentsGiveTheBitsOfOneRangeEach) {
  const Tensor grad = test::normal(exec_, {kSegmentedCount}, DType::f32, 61);
  const Tensor state =
      test::upload_state(exec_, good_state(1, mu_schedule(1), kBeta1, kBeta2, 0.1F));
  const auto cut = cut_segments(kSegments);
  const auto bytes = static_cast<std::int64_t>(cut.size() * sizeof(UpdateSegment));
  const Tensor table{exec_.device(), {bytes}, DType::u8};
  upload(exec_, table.view().bytes_begin(), cut.data(), bytes);
  const UpdateSegment& s = kSegments[1];  // of stream 0, as a range without a table
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Parameters a{exec_, kSegmentedCount, dtype, DType::bf16},
        b{exec_, kSegmentedCount, dtype, DType::bf16};
    move_states(exec_, a, b);
    OptimizerUpdate all = all_of(b, grad, state);
    all.segments = table;
    optimizer_update(exec_, all);
    optimizer_update(exec_, only(all_of(a, grad, state), s));
    const auto value_a = download_floats(exec_, a.value), value_b = download_floats(exec_, b.value);
    const auto m_a = download_floats(exec_, a.m), m_b = download_floats(exec_, b.m);
    for (std::int64_t i = 0; i < s.count; ++i) {
      const auto at = static_cast<std::size_t>(s.value + i);
      ASSERT_EQ(value_a[at], value_b[at]) << i;
      ASSERT_EQ(m_a[at], m_b[static_cast<std::size_t>(s.state + i)]) << i;
    }
    EXPECT_NE(value_b[8], value_a[8]) << "the first segment moved";
    EXPECT_EQ(value_b[7], value_a[7]) << "elements of no segment stay";
  }
}

TEST_P(OptimizerTest, RejectsMissingCompanionsAndMixedMoments) {
  const Parameters p{exec_, 8, DType::bf16, DType::f32};
  const Tensor grad = test::normal(exec_, {8}, DType::f32, 1);
  const Tensor state = test::upload_state(exec_, {});
  OptimizerUpdate args = part_of(p, grad, 0, 8);
  args.state = state;
  args.low = {};
  EXPECT_THROW(optimizer_update(exec_, args), Error);
  args.low = p.low;
  const Tensor bf16 = test::normal(exec_, {8}, DType::bf16, 2);
  args.m = bf16;
  EXPECT_THROW(optimizer_update(exec_, args), Error);
}

void expect_same_bits(OptimizerKind kind, DType dtype, std::int64_t N) {
  SCOPED_TRACE(test::name(kind) + " " + std::string{name(dtype)} + " N" + std::to_string(N));
  const Exec cpu = test::make_exec(DeviceKind::cpu), gpu = test::make_exec(DeviceKind::cuda);
  const Parameters a{cpu, N, dtype, DType::bf16}, b{gpu, N, dtype, DType::bf16};
  const OptimizerUpdate args{.kind = kind, .weight_decay = 0.1F};
  for (int t = 1; t <= 10; ++t) {
    const StepState state = good_state(t, mu_schedule(10), kBeta1, kBeta2, 0.01F);
    a.update(cpu, args, test::normal(cpu, {N}, DType::f32, 70 + t), state);
    b.update(gpu, args, test::normal(gpu, {N}, DType::f32, 70 + t), state);
  }
  EXPECT_TRUE(test::all_equal(a.weights(cpu), b.weights(gpu)));
  EXPECT_TRUE(test::all_equal(download_floats(cpu, a.u), download_floats(gpu, b.u)));
}

TEST(OptimizerCuda, EqualsTheCpuBitForBit) {
  if (!test::cuda_available()) GTEST_SKIP() << "no CUDA device on this host";
  for (const OptimizerKind kind : kAllKinds) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      expect_same_bits(kind, dtype, 4099);
      expect_same_bits(kind, dtype, 4096);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, OptimizerTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
