#include "shoal/nn/model_layout.hpp"

#include <algorithm>
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

SliceDim whole_dim(std::int64_t size) {
  return {.start = 0, .stride = size, .count = 1, .block = size};
}
SliceDim contiguous(std::int64_t size, int parts, int part) {
  const std::int64_t block = size / parts;
  return {.start = part * block, .stride = size, .count = 1, .block = block};
}
/// Blocks dealt over the parts in turn.
SliceDim dealt(std::int64_t blocks, std::int64_t block, int parts, int part) {
  if (parts == 1) return whole_dim(blocks * block);
  return {.start = part * block, .stride = parts * block, .count = blocks / parts, .block = block};
}

/// Names, shapes, slices and starts of all parameters of a rank, in the order of the forward pass.
class Builder {
 public:
  Builder(const ModelConfig& config, const Placement& placement, RankLayout& out)
      : c_{config}, place_{placement}, out_{out} {}

  void build(std::span<const StageRange> ranges) {
    const auto any = [&](bool StageRange::*part) {
      return std::any_of(ranges.begin(), ranges.end(),
                         [&](const StageRange& r) { return r.*part; });
    };
    has_embedding_ = any(&StageRange::embedding);
    has_head_ = any(&StageRange::head);
    for (const StageRange& range : ranges) add_stage(range);
    out_.parameters.finish();
  }

 private:
  using Handle = ParameterLayout::Handle;

  void add_stage(const StageRange& range) {
    StageLayout stage{.range = range};
    const bool tied_head = range.head && c_.tie_word_embeddings;
    if (range.embedding || tied_head) stage.embedding = table();
    for (std::int64_t n = range.first_layer; n < range.last_layer; ++n) add_layer(stage, n);
    if (range.head) {
      stage.final_norm = add_one(norm("norm", c_.hidden_size));
      stage.lm_head = tied_head ? stage.embedding : add_head();
    }
    stage.head_writes_table = c_.tie_word_embeddings && has_head_;
    out_.stages.push_back(std::move(stage));
  }
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

  /// `spec` of which this rank holds only `dim` of one dimension.
  [[nodiscard]] static ParameterSpec cut(ParameterSpec spec, std::size_t dimension, SliceDim dim) {
    spec.slice[dimension] = dim;
    return spec;
  }
  [[nodiscard]] SliceDim tp_block(std::int64_t size) const {
    return contiguous(size, place_.tp, place_.tp_rank);
  }
  /// Rows or columns of `width` for each KV group.
  [[nodiscard]] SliceDim tp_groups(std::int64_t width) const {
    return dealt(c_.num_key_value_heads, width, place_.tp, place_.tp_rank);
  }

  /// The embedding table, which a tied head shares.
  Handle table() {
    if (table_ != kNoTensor) return table_;
    ParameterSpec spec = vocabulary("embed_tokens", kStreamEmbedding);
    // A tied table lives where the first and where the last layers do.
    if (c_.tie_word_embeddings && !(has_embedding_ && has_head_)) spec.replicas |= kPp;
    return table_ = add_one(spec);
  }
  Handle add_head() { return add_one(vocabulary("lm_head", kStreamHead)); }
  [[nodiscard]] ParameterSpec vocabulary(std::string name, std::uint32_t stream) const {
    return cut(matrix(std::move(name), {c_.vocab_size, c_.hidden_size}, stream), 0,
               tp_block(c_.vocab_size));
  }
  void add_layer(StageLayout& stage, std::int64_t n) {
    prefix_ = "layers." + std::to_string(n) + ".";
    layer_stream_ = kFirstLayerStream + static_cast<std::uint32_t>(n) * kSites;
    LayerHandles& layer = stage.layers.emplace_back();
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
    const SliceDim queries = tp_groups(q / c_.num_key_value_heads), keys = tp_groups(d);
    layer.qkv = out_.parameters.add(
        {cut(matrix(name("self_attn.q_proj"), {q, D}, stream(kSiteQ)), 0, queries),
         cut(matrix(name("self_attn.k_proj"), {kv, D}, stream(kSiteK)), 0, keys),
         cut(matrix(name("self_attn.v_proj"), {kv, D}, stream(kSiteV)), 0, keys)},
        {queries.size() + 2 * keys.size(), D});
    if (c_.use_qk_norm) {
      layer.q_norm = add_one(norm(name("self_attn.q_norm"), d));
      layer.k_norm = add_one(norm(name("self_attn.k_norm"), d));
    }
    layer.o_proj = add_one(
        cut(residual(matrix(name("self_attn.o_proj"), {D, q}, stream(kSiteO))), 1, queries));
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
    const SliceDim columns = tp_block(F);
    layer.mlp_gate_up = out_.parameters.add(
        {cut(matrix(prefix_ + part + "gate_proj", {F, D}, stream(kSiteGate)), 0, columns),
         cut(matrix(prefix_ + part + "up_proj", {F, D}, stream(kSiteUp)), 0, columns)},
        {2 * columns.size(), D});
    layer.mlp_down = add_one(
        cut(residual(matrix(prefix_ + part + "down_proj", {D, F}, stream(kSiteDown))), 1, columns));
  }
  void add_moe(LayerHandles& layer) {
    const std::int64_t D = c_.hidden_size, F = c_.moe_intermediate_size, E = c_.num_experts;
    ParameterSpec router = matrix(name("mlp.gate"), {E, D}, stream(kSiteRouter));
    router.keep_f32 = true;
    router.replicas = kDp | kCp | kTp;
    layer.router = add_one(router);
    const SliceDim local = contiguous(E, place_.ep, place_.ep_rank);
    const auto experts = [&](ParameterSpec spec) {
      spec.replicas = kEdp | kCp;
      return cut(std::move(spec), 0, local);
    };
    layer.experts_gate_up = out_.parameters.add(
        {experts(matrix(name("mlp.experts.gate_proj"), {E, F, D}, stream(kSiteExpertGate))),
         experts(matrix(name("mlp.experts.up_proj"), {E, F, D}, stream(kSiteExpertUp)))},
        {local.size(), 2 * F, D}, local.size());
    layer.experts_down = add_one(experts(
        residual(matrix(name("mlp.experts.down_proj"), {E, D, F}, stream(kSiteExpertDown)))));
    if (c_.n_shared_experts > 0) add_mlp(layer, "mlp.shared_experts.", c_.n_shared_experts * F);
  }

  const ModelConfig& c_;
  const Placement& place_;
  RankLayout& out_;
  bool has_embedding_ = false, has_head_ = false;  // some chunk of the rank has it
  Handle table_ = kNoTensor;
  std::string prefix_;
  std::uint32_t layer_stream_ = 0;
};

}  // namespace

StageRange whole_model(const ModelConfig& config) {
  return {
      .first_layer = 0, .last_layer = config.num_hidden_layers, .embedding = true, .head = true};
}

TensorRange tensors_of(const LayerHandles& l) {
  const auto last = std::max({l.input_norm, l.qkv, l.q_norm, l.k_norm, l.o_proj, l.gate_weight,
                              l.gate_scalars, l.post_norm, l.mlp_gate_up, l.mlp_down, l.router,
                              l.experts_gate_up, l.experts_down});
  return {.first = l.input_norm, .last = last + 1};
}

RankLayout make_layout(const ModelConfig& config, std::span<const StageRange> ranges,
                       const Placement& placement) {
  for (const StageRange& range : ranges) {
    expect(range.first_layer >= 0 && range.first_layer <= range.last_layer &&
               range.last_layer <= config.num_hidden_layers,
           "a stage's layers must be layers of the model");
  }
  std::vector<std::string> problems;
  validate_placement(config, {.tp = placement.tp, .ep = placement.ep}, problems);
  expect(problems.empty(), problems.empty() ? "" : problems.front());
  RankLayout layout;
  Builder{config, placement, layout}.build(ranges);
  return layout;
}

RankLayout make_layout(const ModelConfig& config, const StageRange& range) {
  return make_layout(config, std::span{&range, 1}, {});
}

}  // namespace shoal::nn
