#include <gtest/gtest.h>

#include "shoal/parallel/gradient_reducer.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::parallel {
namespace {

nn::ParameterSpec spec(const std::string& name, const Shape& shape, unsigned replicas) {
  return {.name = name, .shape = shape, .slice = nn::whole(shape), .replicas = replicas};
}

/// A dense matrix, expert matrices with two parts each, and an fp32 router.
nn::ParameterLayout make_layout_of_three() {
  nn::ParameterLayout layout;
  layout.add({spec("dense", {5, 7}, nn::kDp | nn::kCp)}, {5, 7});
  layout.add({spec("gate", {2, 3, 4}, nn::kEdp), spec("up", {2, 3, 4}, nn::kEdp)}, {2, 6, 4}, 2);
  nn::ParameterSpec router = spec("router", {2, 4}, nn::kDp | nn::kCp);
  router.keep_f32 = true;
  layout.add({router}, {2, 4});
  layout.finish();
  return layout;
}

TEST(GradientReducer, EveryElementOfEveryParameterIsTheSumOverRanks) {
  const Communicator world = Communicator::world();
  const ProcessGroups groups{world, {}};
  const nn::ParameterLayout layout = make_layout_of_three();
  const std::int64_t n = layout.elem_count() + layout.f32_count();
  const Exec exec{DeviceKind::cpu, {}};
  const Tensor gradients{DeviceKind::cpu, {n}, DType::f32};
  auto* g = gradients.view().data<float>();
  for (std::int64_t i = 0; i < n; ++i) g[i] = static_cast<float>((world.rank() + 1) * (i + 1));

  const GradientReducer reducer{layout, groups, DeviceKind::cpu};
  reducer.reduce(exec, gradients);

  const auto factor = static_cast<float>(world.size() * (world.size() + 1) / 2);
  for (const nn::Parameter& p : layout.parameters()) {
    const std::int64_t base = layout.gradient_base(p.spec.keep_f32) + p.storage.offset;
    for (std::int64_t part = 0; part < p.storage.parts; ++part) {
      for (std::int64_t j = 0; j < p.storage.inner; ++j) {
        const std::int64_t at = base + part * p.storage.stride + j;
        ASSERT_EQ(g[at], factor * static_cast<float>(at + 1)) << p.spec.name << " " << at;
      }
    }
  }
}

TEST(GradientReducer, WireBytesAreThoseOfARing) {
  const nn::ParameterLayout layout = make_layout_of_three();
  EXPECT_EQ(GradientReducer::wire_bytes(layout, make_layout({}, 1)), 0);
  const std::int64_t two = GradientReducer::wire_bytes(layout, make_layout({}, 2));
  EXPECT_GE(two, (35 + 48 + 8) * 4);  // at least every parameter once; alignment comes on top
}

}  // namespace
}  // namespace shoal::parallel
