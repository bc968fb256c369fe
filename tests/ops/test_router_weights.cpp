#include "shoal/ops/router_weights.hpp"

#include "ops/both_devices.hpp"
#include "shoal/ops/router.hpp"

namespace shoal::ops {
namespace {

struct Case {
  std::int64_t T, E, K;
  RouterScore score = RouterScore::softmax;
  bool normalise = true;
  float scaling = 1.0F;
};

class RouterWeightsTest : public test::BothDevices {};

TEST_P(RouterWeightsTest, OfTheRoutersOwnChoiceAreItsWeights) {
  const std::vector<Case> cases = {
      {.T = 0, .E = 8, .K = 2},
      {.T = 1, .E = 1, .K = 1},
      {.T = 31, .E = 33, .K = 7, .score = RouterScore::sigmoid, .scaling = 1.5F},
      {.T = 129, .E = 64, .K = 8, .normalise = false, .scaling = 2.5F}};
  for (const Case& c : cases) {
    const Tensor logits = test::normal(exec_, {c.T, c.E}, DType::f32, 3);
    const Tensor index = test::poisoned(exec_, {c.T, c.K}, DType::i32);
    const Tensor weight = test::poisoned(exec_, {c.T, c.K}, DType::f32);
    const Tensor again = test::poisoned(exec_, {c.T, c.K}, DType::f32);
    const Tensor score = test::poisoned(exec_, {c.T, c.E}, DType::f32);
    router_forward(exec_, {.index_TK = index,
                           .weight_TK = weight,
                           .score_TE = score,
                           .logits_TE = logits,
                           .bias_E = {},
                           .score = c.score,
                           .normalise = c.normalise,
                           .scaling = c.scaling});
    router_weights(exec_, {.weight_TK = again,
                           .score_TE = score,
                           .index_TK = index,
                           .normalise = c.normalise,
                           .scaling = c.scaling});
    const auto expected = download_floats(exec_, weight), found = download_floats(exec_, again);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_FLOAT_EQ(found[i], expected[i]) << c.T << " " << c.E << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterWeightsTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
