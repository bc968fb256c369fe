#include "shoal/nn/model_layout.hpp"

#include <cmath>
#include <string>
#include <utility>

namespace shoal::nn {
namespace {

// Random streams are part of the reproducibility contract: never renumber.
enum Site : std::uint32_t {
  kSiteQ,
  kSiteK,
  kSiteV,
  kSiteO,
  kSiteGate,
  kSiteUp,
  kSiteDown,
  kSiteRouter,
  kSiteExpertGate,
  kSiteExpertUp,
  kSiteExpertDown,
  kSites = 32
};
constexpr std::uint32_t kStreamEmbedding = 0;
constexpr std::uint32_t kStreamHead = 1;
constexpr std::uint32_t kFirstLayerStream = 32;

/// Names, shapes and starts of all parameters of a stage, in the order of the forward pass.
class Builder {
 public:
  Builder(const ModelConfig& config, StageLayout& out) : c_{config}, out_{out} {}

  void build() {
    const StageRange& range = out_.range;
    const bool tied_head = range.head && c_.tie_word_embeddings;
    if (range.embedding || tied_head) out_.embedding = add_embedding();
    for (std::int64_t n = range.first_layer; n < range.last_layer; ++n) add_layer(n);
    if (range.head) {
      out_.final_norm = add_one(norm("norm", c_.hidden_size));
      out_.lm_head = tied_head ? out_.embedding : add_head();
    }
    out_.parameters.finish();
  }

 private:
  using Handle = ParameterLayout::Handle;

  [[nodiscard]] ParameterSpec matrix(std::string name, Shape shape, std::uint32_t stream) const {
    return {.name = std::move(name),
            .shape = shape,
            .slice = whole(shape),
            .init = {Initializer::Kind::normal, static_cast<float>(c_.initializer_range)},
            .stream = stream};
  }
  /// Replicated over tensor parallel ranks, each of which sees its own tokens.
  [[nodiscard]] static ParameterSpec constant(std::string name, std::int64_t size, float value) {
    return {.name = std::move(name),
            .shape = {size},
            .slice = whole({size}),
            .init = {Initializer::Kind::constant, value},
            .decay = false,
            .replicas = kDp | kCp | kTp};
  }
  [[nodiscard]] static ParameterSpec norm(std::string name, std::int64_t size) {
    return constant(std::move(name), size, 1.0F);
  }
  [[nodiscard]] ParameterSpec residual(ParameterSpec spec) const {
    if (c_.scale_residual_init) {
      const double layers = 2.0 * static_cast<double>(c_.num_hidden_layers);
      spec.init.value = static_cast<float>(c_.initializer_range / std::sqrt(layers));
    }
    return spec;
  }
  Handle add_one(const ParameterSpec& spec) {
    return out_.parameters.add({spec}, local_shape(spec.slice));
  }
  [[nodiscard]] std::string name(const char* part) const { return prefix_ + part; }
  [[nodiscard]] std::uint32_t stream(Site site) const { return layer_stream_ + site; }

  Handle add_embedding() {
    ParameterSpec spec = matrix("embed_tokens", {c_.vocab_size, c_.hidden_size}, kStreamEmbedding);
    // A tied table lives on the first and on the last stage.
    if (c_.tie_word_embeddings && !(out_.range.embedding && out_.range.head)) spec.replicas |= kPp;
    return add_one(spec);
  }
  Handle add_head() {
    return add_one(matrix("lm_head", {c_.vocab_size, c_.hidden_size}, kStreamHead));
  }
  void add_layer(std::int64_t n) {
    prefix_ = "layers." + std::to_string(n) + ".";
    layer_stream_ = kFirstLayerStream + static_cast<std::uint32_t>(n) * kSites;
    LayerHandles& layer = out_.layers.emplace_back();
    layer.input_norm = add_one(norm(name("input_layernorm"), c_.hidden_size));
    add_attention(layer);
    layer.post_norm = add_one(norm(name("post_attention_layernorm"), c_.hidden_size));
    if (c_.is_moe_layer(n)) {
      add_moe(layer);
    } else {
      add_mlp(layer, "mlp.", c_.intermediate_size);
    }
  }
  void add_attention(LayerHandles& layer) {
    const std::int64_t D = c_.hidden_size, d = c_.head_dim;
    const std::int64_t q = c_.num_attention_heads * d, kv = c_.num_key_value_heads * d;
    layer.qkv = out_.parameters.add({matrix(name("self_attn.q_proj"), {q, D}, stream(kSiteQ)),
                                     matrix(name("self_attn.k_proj"), {kv, D}, stream(kSiteK)),
                                     matrix(name("self_attn.v_proj"), {kv, D}, stream(kSiteV))},
                                    {q + 2 * kv, D});
    if (c_.use_qk_norm) {
      layer.q_norm = add_one(norm(name("self_attn.q_norm"), d));
      layer.k_norm = add_one(norm(name("self_attn.k_norm"), d));
    }
    layer.o_proj = add_one(residual(matrix(name("self_attn.o_proj"), {D, q}, stream(kSiteO))));
    if (c_.dynamic_heads.enabled) add_head_gate(layer);
  }
  void add_head_gate(LayerHandles& layer) {
    const double start = 1.0 - 1.0 / (4.0 * static_cast<double>(c_.num_key_value_heads));
    const auto bias = static_cast<float>(std::log(start / (1.0 - start)));
    std::vector<ParameterSpec> specs = {constant(name("self_attn.head_gate.length"), 1, 0.0F),
                                        constant(name("self_attn.head_gate.bias"), 1, bias)};
    for (ParameterSpec& spec : specs) spec.keep_f32 = true;
    ParameterSpec weight = constant(name("self_attn.head_gate.weight"), c_.hidden_size, 0.0F);
    weight.keep_f32 = true;
    layer.gate_weight = add_one(weight);
    layer.gate_scalars = out_.parameters.add(std::move(specs), {2});
  }
  void add_mlp(LayerHandles& layer, const std::string& part, std::int64_t F) {
    const std::int64_t D = c_.hidden_size;
    layer.mlp_gate_up =
        out_.parameters.add({matrix(prefix_ + part + "gate_proj", {F, D}, stream(kSiteGate)),
                             matrix(prefix_ + part + "up_proj", {F, D}, stream(kSiteUp))},
                            {2 * F, D});
    layer.mlp_down =
        add_one(residual(matrix(prefix_ + part + "down_proj", {D, F}, stream(kSiteDown))));
  }
  void add_moe(LayerHandles& layer) {
    const std::int64_t D = c_.hidden_size, F = c_.moe_intermediate_size, E = c_.num_experts;
    ParameterSpec router = matrix(name("mlp.gate"), {E, D}, stream(kSiteRouter));
    router.keep_f32 = true;
    router.replicas = kDp | kCp | kTp;
    layer.router = add_one(router);
    std::vector<ParameterSpec> specs = {
        matrix(name("mlp.experts.gate_proj"), {E, F, D}, stream(kSiteExpertGate)),
        matrix(name("mlp.experts.up_proj"), {E, F, D}, stream(kSiteExpertUp))};
    ParameterSpec down =
        residual(matrix(name("mlp.experts.down_proj"), {E, D, F}, stream(kSiteExpertDown)));
    for (ParameterSpec* spec : {&specs[0], &specs[1], &down}) spec->replicas = kEdp | kCp;
    layer.experts_gate_up = out_.parameters.add(std::move(specs), {E, 2 * F, D}, E);
    layer.experts_down = add_one(down);
    if (c_.n_shared_experts > 0) add_mlp(layer, "mlp.shared_experts.", c_.n_shared_experts * F);
  }

  const ModelConfig& c_;
  StageLayout& out_;
  std::string prefix_;
  std::uint32_t layer_stream_ = 0;
};

}  // namespace

StageRange whole_model(const ModelConfig& config) {
  return {
      .first_layer = 0, .last_layer = config.num_hidden_layers, .embedding = true, .head = true};
}

StageLayout make_layout(const ModelConfig& config, const StageRange& range) {
  expect(range.first_layer >= 0 && range.first_layer <= range.last_layer &&
             range.last_layer <= config.num_hidden_layers,
         "a stage's layers must be layers of the model");
  StageLayout layout{.range = range};
  Builder{config, layout}.build();
  return layout;
}

}  // namespace shoal::nn
