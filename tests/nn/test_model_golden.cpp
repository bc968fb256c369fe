// Loss, router ledger and the gradient of every parameter against PyTorch (tests/golden/README.md).
#include <gtest/gtest.h>

#include <string>

#include "harness.hpp"
#include "shoal/io/h5_file.hpp"

namespace shoal::nn::test {
namespace {

constexpr double kLossTolerance = 1e-6;
constexpr double kGradientTolerance = 1e-5;  // norm-relative for each parameter

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_{io::H5File::open(std::string{SHOAL_GOLDEN_DIR} + "/model_" + name + ".h5")} {}

  [[nodiscard]] std::int64_t integer(const char* key) const {
    return file_.int_attribute("/", key);
  }
  [[nodiscard]] double real(const char* key) const { return file_.double_attribute("/", key); }
  [[nodiscard]] bool flag(const char* key) const { return integer(key) != 0; }
  template <class T>
  [[nodiscard]] std::vector<T> values(const std::string& path) const {
    return file_.dataset(path).read_all<T>();
  }
  [[nodiscard]] std::vector<std::string> list(const std::string& group) const {
    return file_.has(group) ? file_.list(group) : std::vector<std::string>{};
  }
  [[nodiscard]] ModelConfig config() const {
    ModelConfig c;
    c.vocab_size = integer("vocab_size");
    c.hidden_size = integer("hidden_size");
    c.num_hidden_layers = integer("num_hidden_layers");
    c.num_attention_heads = integer("num_attention_heads");
    c.num_key_value_heads = integer("num_key_value_heads");
    c.head_dim = integer("head_dim");
    c.max_position_embeddings = integer("max_position_embeddings");
    c.tie_word_embeddings = flag("tie_word_embeddings");
    c.intermediate_size = integer("intermediate_size");
    c.first_k_dense_replace = integer("first_k_dense_replace");
    c.use_qk_norm = flag("use_qk_norm");
    c.rope_theta = real("rope_theta");
    c.rms_norm_eps = real("rms_norm_eps");
    c.dynamic_heads = {.enabled = flag("dynamic_heads"),
                       .gate_block = integer("gate_block"),
                       .head_budget = real("head_budget"),
                       .head_budget_coef = real("head_budget_coef")};
    read_experts(c);
    return c;
  }
  [[nodiscard]] HostBatch batch() const {
    return {.token = values<std::int32_t>("batch/token"),
            .target = values<std::int32_t>("batch/target"),
            .doc_start = values<std::int32_t>("batch/doc_start"),
            .position = values<std::int32_t>("batch/position"),
            .mask = values<std::uint8_t>("batch/mask"),
            .sequence = integer("sequence")};
  }
  /// Scales of a step that consists of this micro-batch.
  [[nodiscard]] Scales scales(const HostBatch& batch) const {
    const bool per_sequence = file_.string_attribute("/", "aux_loss_scope") == "sequence";
    const auto sequences = static_cast<double>(integer("sequences"));
    const double groups = per_sequence ? sequences : 1.0;
    return {
        .loss = 1.0F / static_cast<float>(batch.targets()),
        .aux = static_cast<float>(real("router_aux_loss_coef") / groups),
        .z = static_cast<float>(real("router_z_loss_coef") / static_cast<double>(batch.tokens())),
        .budget = static_cast<float>(real("head_budget_coef") / sequences)};
  }

 private:
  void read_experts(ModelConfig& c) const {
    c.num_experts = integer("num_experts");
    c.num_experts_per_tok = integer("num_experts_per_tok");
    c.moe_intermediate_size = integer("moe_intermediate_size");
    c.n_shared_experts = integer("n_shared_experts");
    c.router = file_.string_attribute("/", "router");
    c.norm_topk_prob = flag("norm_topk_prob");
    c.routed_scaling_factor = real("routed_scaling_factor");
    c.capacity_factor = real("capacity_factor");
    c.router_aux_loss_coef = real("router_aux_loss_coef");
    c.aux_loss_scope = file_.string_attribute("/", "aux_loss_scope");
    c.router_z_loss_coef = real("router_z_loss_coef");
  }
  io::H5File file_;
};

/// The model of a golden file with its weights and biases.
struct GoldenModel {
  GoldenModel(Exec& exec, const Golden& golden, DType elem)
      : harness{exec, {.config = golden.config(), .elem = elem}} {
    for (const Parameter& p : harness.layout.parameters.parameters()) {
      harness.set(p.spec.name, golden.values<float>("parameter/" + p.spec.name));
    }
    for (const std::string& layer : golden.list("bias")) {
      upload_values(exec, harness.model.state().router_bias[std::stoul(layer)],
                    golden.values<float>("bias/" + layer));
    }
  }
  Harness harness;
};

struct Case {
  std::string name;
  DeviceKind device;
};

class ModelGolden : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().device == DeviceKind::cuda && !cuda_available()) {
      GTEST_SKIP() << "no CUDA device on this host";
    }
  }
};

TEST_P(ModelGolden, LossAndEveryGradientAreThoseOfPyTorch) {
  Exec exec = make_exec(GetParam().device, 64);
  const Golden golden{GetParam().name};
  GoldenModel m{exec, golden, DType::f32};
  const HostBatch batch = golden.batch();
  const float loss = m.harness.train(batch, golden.scales(batch));
  EXPECT_NEAR(loss, golden.real("loss_sum"), kLossTolerance * golden.real("loss_sum"));
  const auto& parameters = m.harness.layout.parameters.parameters();
  EXPECT_EQ(parameters.size(), golden.list("gradient").size());
  for (const Parameter& p : parameters) {
    const std::vector<float> expected = golden.values<float>("gradient/" + p.spec.name);
    EXPECT_LE(distance(m.harness.gradient(p.spec.name), expected), kGradientTolerance)
        << p.spec.name;
  }
}

TEST_P(ModelGolden, RouterLedgerIsThatOfPyTorch) {
  Exec exec = make_exec(GetParam().device, 64);
  const Golden golden{GetParam().name};
  GoldenModel m{exec, golden, DType::f32};
  const HostBatch batch = golden.batch();
  m.harness.train(batch, golden.scales(batch));
  const ModelState& state = m.harness.model.state();
  ASSERT_EQ(state.ledger.size(), golden.list("ledger").size());
  for (const RouterLedger& ledger : state.ledger) {
    const std::string at = "ledger/" + std::to_string(ledger.layer);
    EXPECT_EQ(download_floats(exec, ledger.count_E), golden.values<float>(at + "/count"));
    EXPECT_TRUE(all_near(download_floats(exec, ledger.sums), golden.values<float>(at + "/sums"),
                         {.relative = 1e-5, .global = 1e-5}));
  }
}

/// Rounding may send a token to another expert, which no bound on a single matrix survives: the
/// whole gradient is compared.
TEST_P(ModelGolden, SixteenBitTrainingIsNearPyTorch) {
  const Golden golden{GetParam().name};
  for (const auto& [elem, tolerance] : {std::pair{DType::bf16, 0.1}, {DType::f16, 0.01}}) {
    Exec exec = make_exec(GetParam().device, 64);
    GoldenModel m{exec, golden, elem};
    const HostBatch batch = golden.batch();
    const float loss = m.harness.train(batch, golden.scales(batch));
    EXPECT_NEAR(loss, golden.real("loss_sum"), 0.1 * tolerance * golden.real("loss_sum"));
    std::vector<float> got, expected;
    for (const Parameter& p : m.harness.layout.parameters.parameters()) {
      const std::vector<float> part = m.harness.gradient(p.spec.name);
      const std::vector<float> golden_part = golden.values<float>("gradient/" + p.spec.name);
      got.insert(got.end(), part.begin(), part.end());
      expected.insert(expected.end(), golden_part.begin(), golden_part.end());
    }
    EXPECT_LE(distance(got, expected), tolerance) << name(elem);
    RecordProperty(std::string{name(elem)}, std::to_string(distance(got, expected)));
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::cuda}) {
    for (const char* name :
         {"softmax", "sigmoid", "documents", "dense", "capacity", "dynamic", "dynamic_budget"}) {
      all.push_back({name, device});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, ModelGolden, ::testing::ValuesIn(cases()), [](const auto& info) {
  return info.param.name + (info.param.device == DeviceKind::cpu ? "_cpu" : "_cuda");
});

}  // namespace
}  // namespace shoal::nn::test
