// Wires the modules of a stage to their weights.
#include "shoal/nn/model.hpp"
#include "shoal/nn/shard_group.hpp"

namespace shoal::nn {
namespace {

Recompute recompute_from_name(const std::string& name) {
  if (name == "none") return Recompute::none;
  if (name == "selective") return Recompute::selective;
  require(name == "full", "recompute = " + name + "; allowed: none | selective | full");
  return Recompute::full;
}

/// What a builder of modules reads.
struct Source {
  const ModelConfig& config;
  const ComputeConfig& compute;
  const StageLayout& layout;
  const ParameterStore& store;
  const ModelGroups& groups;
  const ModelState& state;

  [[nodiscard]] Weight weight(ParameterLayout::Handle handle) const {
    return handle == kNoTensor ? Weight{} : store.weight(handle);
  }
};

Attention make_attention(const Source& s, const LayerHandles& layer) {
  const ModelConfig& c = s.config;
  const int ranks = s.groups.tensor->size();
  return Attention{{.heads = {.heads = c.num_attention_heads / ranks,
                              .groups = c.num_key_value_heads / ranks,
                              .head_dim = c.head_dim},
                    .qkv = s.weight(layer.qkv),
                    .q_norm = s.weight(layer.q_norm),
                    .k_norm = s.weight(layer.k_norm),
                    .o_proj = s.weight(layer.o_proj),
                    .gate_weight = s.weight(layer.gate_weight),
                    .gate_scalars = s.weight(layer.gate_scalars),
                    .cos_PC = s.state.cos_PC,
                    .sin_PC = s.state.sin_PC,
                    .dynamic_heads = c.dynamic_heads,
                    .norm_eps = static_cast<float>(c.rms_norm_eps),
                    .max_position = c.max_position_embeddings,
                    .group = s.groups.tensor}};
}

Mlp make_mlp(const Source& s, const LayerHandles& layer) {
  return Mlp{s.weight(layer.mlp_gate_up), s.weight(layer.mlp_down), s.groups.tensor};
}

const RouterLedger& ledger_of(const ModelState& state, std::int64_t layer) {
  for (const RouterLedger& ledger : state.ledger) {
    if (ledger.layer == layer) return ledger;
  }
  fail("model", "layer " + std::to_string(layer) + " has no router ledger");
}

std::variant<Mlp, Moe> make_feed_forward(const Source& s, std::int64_t n) {
  const auto index = static_cast<std::size_t>(n - s.layout.range.first_layer);
  const LayerHandles& layer = s.layout.layers[index];
  if (!s.config.is_moe_layer(n)) return make_mlp(s, layer);
  expect(s.groups.dispatcher != nullptr, "a model with experts needs a token dispatcher");
  std::optional<Mlp> shared;
  if (layer.mlp_gate_up != kNoTensor) shared = make_mlp(s, layer);
  return Moe{{.router = Router{s.config, s.weight(layer.router),
                               s.state.router_bias[static_cast<std::size_t>(n)], s.groups.tensor},
              .experts = Experts{s.weight(layer.experts_gate_up), s.weight(layer.experts_down)},
              .shared = shared,
              .dispatcher = s.groups.dispatcher,
              .ledger = ledger_of(s.state, n)}};
}

Block make_block(const Source& s, std::int64_t n) {
  const LayerHandles& layer =
      s.layout.layers[static_cast<std::size_t>(n - s.layout.range.first_layer)];
  return Block{{.input_norm = RmsNorm{s.weight(layer.input_norm), s.config.rms_norm_eps},
                .post_norm = RmsNorm{s.weight(layer.post_norm), s.config.rms_norm_eps},
                .attention = make_attention(s, layer),
                .mlp = make_feed_forward(s, n),
                .recompute_attention = recompute_from_name(s.compute.recompute_attention),
                .recompute_mlp = recompute_from_name(s.compute.recompute_mlp),
                .attention_dropout = static_cast<float>(s.config.attention_dropout),
                .mlp_dropout = static_cast<float>(s.config.expert_dropout),
                .group = s.groups.tensor,
                .layer = n,
                .hidden = s.config.hidden_size,
                .elem = s.store.elem_dtype()}};
}

}  // namespace

Model::Model(const ModelParts& parts)
    : config_{parts.config},
      range_{parts.layout.range},
      elem_{parts.store.elem_dtype()},
      state_{&parts.state},
      tensor_{parts.groups.tensor},
      head_writes_table_{parts.layout.head_writes_table},
      layout_{parts.layout} {
  expect(parts.groups.tensor != nullptr, "a model needs its tensor parallel group");
  const Source source{parts.config, parts.compute, parts.layout,
                      parts.store,  parts.groups,  parts.state};
  for (std::int64_t n = range_.first_layer; n < range_.last_layer; ++n) {
    blocks_.push_back(make_block(source, n));
  }
  if (range_.embedding) {
    embedding_ =
        Embedding{source.weight(parts.layout.embedding), config_.embedding_dropout, tensor_};
  }
  if (range_.head) {
    final_norm_ = RmsNorm{source.weight(parts.layout.final_norm), config_.rms_norm_eps};
    head_ = LmHead{source.weight(parts.layout.lm_head), parts.compute.loss_chunk, tensor_};
  }
}

}  // namespace shoal::nn
