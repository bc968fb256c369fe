#include "shoal/nn/parameter.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "support/tensors.hpp"

namespace shoal::nn {
namespace {

ParameterSpec spec(std::string name, Shape shape, std::uint32_t stream) {
  return {.name = std::move(name), .shape = shape, .slice = whole(shape), .stream = stream};
}

/// A fused matrix, gates and ups of two experts, a norm and an f32 router.
struct Example {
  ParameterLayout layout;
  ParameterLayout::Handle qk, gate_up, norm, router;
  Example() {
    ParameterSpec gain = spec("norm", {5}, 0);
    gain.init = {Initializer::Kind::constant, 1.0F};
    gain.decay = false;
    norm = layout.add({gain}, {5});
    qk = layout.add({spec("q", {4, 3}, 1), spec("k", {2, 3}, 2)}, {6, 3});
    gate_up = layout.add({spec("gate", {2, 3, 5}, 3), spec("up", {2, 3, 5}, 4)}, {2, 6, 5}, 2);
    ParameterSpec gate = spec("router", {2, 7}, 5);
    gate.keep_f32 = true;
    router = layout.add({gate}, {2, 7});
    layout.finish();
  }
};

TEST(ParameterLayout, PlacesDecayedParametersFirstAndAlignsFusedTensors) {
  const Example e;
  EXPECT_EQ(e.layout.fused(e.qk).offset, 0);
  EXPECT_EQ(e.layout.fused(e.gate_up).offset, 64);
  EXPECT_EQ(e.layout.fused(e.norm).offset, 128) << "not decayed, hence last";
  EXPECT_EQ(e.layout.fused(e.router).offset, 0) << "in its own buffer";
  EXPECT_EQ(e.layout.elem_count(), 192);
  EXPECT_EQ(e.layout.f32_count(), 64);
  EXPECT_EQ(e.layout.find("k").storage.offset, 12) << "after the 4 x 3 of q";
}

TEST(ParameterLayout, InterleavesThePartsOfFusedParameters) {
  const Example e;
  const StorageMap& gate = e.layout.find("gate").storage;
  const StorageMap& up = e.layout.find("up").storage;
  EXPECT_EQ(gate.parts, 2);
  EXPECT_EQ(gate.inner, 15);
  EXPECT_EQ(gate.stride, 30);
  EXPECT_EQ(up.offset, gate.offset + 15);
}

TEST(ParameterLayout, RangesCoverBothBuffersOnceAndParametersDoNotOverlap) {
  const Example e;
  std::array<std::int64_t, 2> next{};
  for (const OptimizerRange& range : e.layout.ranges()) {
    EXPECT_EQ(range.first, next[range.keep_f32]);
    next[range.keep_f32] = range.first + range.count;
  }
  EXPECT_EQ(next[0], e.layout.elem_count());
  EXPECT_EQ(next[1], e.layout.f32_count());
  std::set<std::pair<bool, std::int64_t>> taken;
  for (const Parameter& p : e.layout.parameters()) {
    const auto owner = std::find_if(
        e.layout.ranges().begin(), e.layout.ranges().end(), [&](const OptimizerRange& r) {
          return r.keep_f32 == p.spec.keep_f32 && r.first <= p.storage.offset &&
                 p.storage.offset < r.first + r.count;
        });
    ASSERT_NE(owner, e.layout.ranges().end());
    EXPECT_EQ(owner->decay, p.spec.decay) << p.spec.name;
    for (std::int64_t i = 0; i < p.storage.parts; ++i) {
      for (std::int64_t j = 0; j < p.storage.inner; ++j) {
        const std::int64_t at = p.storage.offset + i * p.storage.stride + j;
        EXPECT_TRUE(taken.emplace(p.spec.keep_f32, at).second) << p.spec.name;
      }
    }
  }
}

TEST(ParameterLayout, RejectsFusedShapesAndMixedTreatment) {
  ParameterLayout layout;
  EXPECT_THROW(layout.add({spec("a", {4, 3}, 0)}, {3, 3}), Error);
  ParameterSpec plain = spec("a", {4}, 0), bias = spec("b", {4}, 1);
  bias.decay = false;
  EXPECT_THROW(layout.add({plain, bias}, {8}), Error);
  EXPECT_THROW((void)layout.find("nowhere"), Error);
}

TEST(InitialValues, OfASliceAreTheSliceOfTheWhole) {
  const ParameterSpec all = spec("w", {8, 3, 6}, 9);
  const std::vector<float> whole_values = initial_values(all, 42, 0, 8 * 3 * 6);
  ParameterSpec part = all;
  // Rank 1 of 2 holds blocks of two rows dealt round-robin, and the second half of the columns.
  part.slice = {{.start = 2, .stride = 4, .count = 2, .block = 2},
                {.start = 0, .stride = 3, .count = 1, .block = 3},
                {.start = 3, .stride = 3, .count = 1, .block = 3}};
  ASSERT_EQ(local_shape(part.slice), (Shape{4, 3, 3}));
  std::vector<float> expected;
  for (const int row : {2, 3, 6, 7}) {
    for (int i = 0; i < 3; ++i) {
      for (int j = 3; j < 6; ++j) expected.push_back(whole_values[(row * 3 + i) * 6 + j]);
    }
  }
  EXPECT_TRUE(test::all_equal(initial_values(part, 42, 0, 36), expected));
  const std::vector<float> window(expected.begin() + 5, expected.begin() + 25);
  EXPECT_TRUE(test::all_equal(initial_values(part, 42, 5, 20), window));
}

TEST(InitialValues, OfAStoreAreThoseOfItsParameters) {
  const Example e;
  Exec exec = test::make_exec(DeviceKind::cpu, 1);
  const ParameterStore store{exec, e.layout, DType::f32, true};
  initialise(exec, store, 7);
  const std::vector<float> flat = download_floats(exec, store.elem_values());
  std::vector<float> rest = flat;
  for (const Parameter& p : e.layout.parameters()) {
    if (p.spec.keep_f32) continue;
    const std::vector<float> values = initial_values(p.spec, 7, 0, p.storage.elements());
    for (std::int64_t k = 0; k < p.storage.elements(); ++k) {
      const std::int64_t at =
          p.storage.offset + k / p.storage.inner * p.storage.stride + k % p.storage.inner;
      EXPECT_EQ(flat[static_cast<std::size_t>(at)], values[static_cast<std::size_t>(k)]);
      rest[static_cast<std::size_t>(at)] = 0.0F;
    }
  }
  EXPECT_EQ(std::count(rest.begin(), rest.end(), 0.0F), 192) << "gaps are zero";
  const std::vector<float> gains = download_floats(exec, store.weight(e.norm).value);
  EXPECT_EQ(gains, std::vector<float>(5, 1.0F));
}

TEST(InitialValues, OfAWindowAreThoseOfTheStore) {
  const Example e;
  Exec exec = test::make_exec(DeviceKind::cpu, 1);
  const ParameterStore store{exec, e.layout, DType::f32, false};
  initialise(exec, store, 7);
  const Tensor window{DeviceKind::cpu, {100}, DType::f32};
  fill_initial(exec, e.layout, {.values = window, .first = 50, .keep_f32 = false, .seed = 7});
  EXPECT_TRUE(test::all_equal(download_floats(exec, window),
                              download_floats(exec, store.elem_values().rows(50, 100))));
}

TEST(ParameterStore, GradientsOfBothBuffersLieInOne) {
  const Example e;
  Exec exec = test::make_exec(DeviceKind::cpu, 1);
  const ParameterStore store{exec, e.layout, DType::bf16, true};
  const Weight router = store.weight(e.router);
  EXPECT_EQ(router.value.dtype(), DType::f32);
  EXPECT_EQ(router.grad.bytes_begin() - store.gradients().bytes_begin(), 192 * 4);
  EXPECT_EQ(store.weight(e.qk).value.dtype(), DType::bf16);
  EXPECT_TRUE(ParameterStore(exec, e.layout, DType::f32, false).weight(e.qk).grad.absent());
}

}  // namespace
}  // namespace shoal::nn
