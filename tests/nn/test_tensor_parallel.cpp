// The whole model on two and four ranks (threads) that share its tensors and split its tokens,
// against one rank.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "slices.hpp"
#include "thread_group.hpp"

namespace shoal::nn::test {
namespace {

/// Norm-relative. Sums over heads, columns, vocabulary and tokens are cut at other places than on
/// one rank, so every gradient differs by a few roundings of fp32 (6e-8 each) times the depth of
/// the model; a missing or doubled term is orders of magnitude above.
constexpr double kTolerance = 1e-5;
constexpr Scales kScales{.loss = 0.01F, .aux = 0.05F, .z = 0.002F, .budget = 0.1F, .step_seed = 3};

struct Case {
  std::string name;
  ModelConfig config;
  ComputeConfig compute = {};
  int ranks = 2;
};

ModelConfig base() {
  ModelConfig c = small_config();
  c.vocab_size = 40;
  c.num_key_value_heads = 4;
  return c;
}
HostBatch documents() {
  HostBatch batch = random_batch(3, 32, 40, {7, 20});
  batch.first_token = 192;
  return batch;
}

/// A step's results, each parameter whole and summed over its replicas.
struct Result {
  double loss = 0.0, evaluated = 0.0;
  std::vector<float> totals;
  std::map<std::string, std::vector<float>> gradients;
};

void add(std::vector<float>& sum, const std::vector<float>& part) {
  sum.resize(part.size(), 0.0F);
  for (std::size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
}

void add_rank(Result& result, const Harness& m, float loss, float evaluated) {
  result.loss += loss;
  result.evaluated += evaluated;
  add(result.totals, download_floats(m.exec, m.model.state().totals));
  for (const Parameter& p : m.layout.parameters.parameters()) {
    std::vector<float>& whole = result.gradients[p.spec.name];
    whole.resize(static_cast<std::size_t>(p.spec.shape.elements()), 0.0F);
    const std::vector<float> part = m.gradient(p.spec.name);
    const std::vector<std::size_t> at = global_indices(p.spec);
    for (std::size_t i = 0; i < at.size(); ++i) whole[at[i]] += part[i];
  }
}

Result run_on(int ranks, const Case& c) {
  std::vector<Result> parts(static_cast<std::size_t>(ranks));
  const auto run = [&](int r, ShardGroup* group) {
    Exec exec = make_exec(DeviceKind::cpu, 64);
    Harness m{exec, {.config = c.config, .compute = c.compute, .tensor = group}};
    const float loss = m.train(documents(), kScales);
    add_rank(parts[static_cast<std::size_t>(r)], m, loss, m.evaluate(documents()));
  };
  if (ranks == 1) {
    run(0, nullptr);
  } else {
    on_ranks(ranks, [&](int r, ShardGroup& group) { run(r, &group); });
  }
  Result all = parts.front();
  for (std::size_t r = 1; r < parts.size(); ++r) {
    all.loss += parts[r].loss;
    all.evaluated += parts[r].evaluated;
    add(all.totals, parts[r].totals);
    for (auto& [name, gradient] : all.gradients) add(gradient, parts[r].gradients.at(name));
  }
  return all;
}

class TensorParallel : public ::testing::TestWithParam<Case> {};

TEST_P(TensorParallel, LossLedgerAndEveryGradientAreThoseOfOneRank) {
  const Case& c = GetParam();
  const Result expected = run_on(1, c), got = run_on(c.ranks, c);
  EXPECT_NEAR(got.loss, expected.loss, 1e-6 * expected.loss) << "counted once";
  EXPECT_NEAR(got.evaluated, expected.evaluated, 1e-6 * expected.evaluated);
  ASSERT_EQ(got.totals.size(), expected.totals.size());
  for (std::size_t i = 0; i < got.totals.size(); ++i) {
    EXPECT_NEAR(got.totals[i], expected.totals[i], 1e-5 * std::abs(expected.totals[i])) << i;
  }
  for (const auto& [name, gradient] : expected.gradients) {
    EXPECT_LE(distance(got.gradients.at(name), gradient), kTolerance) << name;
  }
}

template <class Change>
ModelConfig with(const Change& change) {
  ModelConfig c = base();
  change(c);
  return c;
}
void open_heads(ModelConfig& c) {
  c.dynamic_heads = {.enabled = true, .gate_block = 8, .head_budget = 0.3, .head_budget_coef = 1.0};
}
void drop(ModelConfig& c) {
  c.embedding_dropout = 0.1;
  c.attention_dropout = 0.2;
  c.expert_dropout = 0.3;
}
void sigmoid(ModelConfig& c) {
  c.router = "sigmoid";
  c.routed_scaling_factor = 1.5;
}

const ComputeConfig kSelective{.recompute_attention = "selective", .recompute_mlp = "selective"};
const ComputeConfig kFull{.recompute_attention = "full", .recompute_mlp = "full", .loss_chunk = 10};

INSTANTIATE_TEST_SUITE_P(
    Models, TensorParallel,
    ::testing::Values(Case{"softmax", base()}, Case{"softmax_on_four", base(), {}, 4},
                      Case{"sigmoid_selective", with(sigmoid), kSelective},
                      Case{"dropout", with(drop)}, Case{"dynamic_heads", with(open_heads)},
                      Case{"dynamic_heads_on_four", with(open_heads), {}, 4},
                      Case{"tied_full", with([](ModelConfig& c) { c.tie_word_embeddings = true; }),
                           kFull},
                      Case{"micro_batch_balance",
                           with([](ModelConfig& c) {
                             c.aux_loss_scope = "micro_batch";
                             sigmoid(c);
                           }),
                           {},
                           4},
                      Case{"dense", with([](ModelConfig& c) { c.num_experts = 1; })},
                      Case{"everything_on_four", with([](ModelConfig& c) {
                             c.tie_word_embeddings = true;
                             c.num_attention_heads = 8;
                             open_heads(c);
                             drop(c);
                             sigmoid(c);
                           }),
                           kFull, 4}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace shoal::nn::test
