#include "shoal/nn/generator.hpp"

#include <algorithm>
#include <array>
#include <numeric>

#include "shoal/nn/model.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::nn {
namespace {

/// Row t * heads + first + g of a packed projection holds head g of token t.
std::vector<std::int32_t> head_rows(std::int64_t tokens, std::int64_t groups, std::int64_t heads,
                                    std::int64_t first) {
  std::vector<std::int32_t> rows;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t g = 0; g < groups; ++g) {
      rows.push_back(static_cast<std::int32_t>(t * heads + first + g));
    }
  }
  return rows;
}

}  // namespace

Generator::Generator(const Exec& exec, const Model& model, const Room& room)
    : model_{&model}, room_{room} {
  const ModelConfig& c = model.config();
  expect(model.range().embedding && model.range().head && model.tensor_ranks() == 1,
         "generation needs the whole model on one rank");
  expect(
      room.max_tokens >= 1 && room.max_tokens <= c.max_position_embeddings && room.max_chunk >= 1,
      "generation: max_tokens must be in 1..max_position_embeddings, max_chunk positive");
  room_.max_chunk = std::min(room.max_chunk, room.max_tokens);
  for (const Block& block : model.blocks()) {
    caches_.push_back(block.attention().make_cache(exec, room.max_tokens));
  }
  const auto ints = [&](std::int64_t n) {
    return persistent(exec, {n}, DType::i32, MemoryKind::cache);
  };
  const std::int64_t H = c.num_attention_heads, G = c.num_key_value_heads;
  token_T_ = ints(room_.max_chunk);
  position_P_ = ints(room_.max_tokens);
  zero_P_ = ints(room_.max_tokens);
  k_slot_TG_ = ints(room_.max_chunk * G);
  v_slot_TG_ = ints(room_.max_chunk * G);
  one_ = persistent(exec, {1}, DType::f32, MemoryKind::cache);
  logits_ = persistent(exec, {1, c.vocab_size}, DType::f32, MemoryKind::cache);
  if (exec.is_dry()) return;
  std::vector<std::int32_t> positions(static_cast<std::size_t>(room_.max_tokens));
  std::iota(positions.begin(), positions.end(), 0);
  upload_values(exec, position_P_, positions);
  zero(exec, zero_P_);
  upload_values(exec, k_slot_TG_, head_rows(room_.max_chunk, G, H + G, H));
  upload_values(exec, v_slot_TG_, head_rows(room_.max_chunk, G, H + 2 * G, H + G));
  upload_values(exec, one_, std::array{1.0F});
}

void Generator::run_chunk(const Exec& exec, std::span<const std::int32_t> tokens, bool last) {
  const auto T = static_cast<std::int64_t>(tokens.size());
  const std::int64_t G = model_->config().num_key_value_heads;
  upload_values(exec, token_T_.rows(0, T), tokens);
  const Batch batch{.token_T = token_T_.rows(0, T), .sequence = T};
  const StepScalars no_scalars;
  const Pass pass{.batch = batch, .scalars = no_scalars, .purpose = Purpose::evaluate};
  const ScratchScope scope{exec};
  const Shape rows{T, model_->config().hidden_size};
  const std::array buffers = {scratch(exec, rows, model_->elem_dtype()),
                              scratch(exec, rows, model_->elem_dtype())};
  model_->embedding().forward(exec, pass, buffers[0]);
  std::size_t from = 0;
  for (std::size_t i = 0; i < caches_.size(); ++i, from = 1 - from) {
    model_->blocks()[i].step(exec, pass,
                             {.y_TD = buffers[1 - from],
                              .x_TD = buffers[from],
                              .position_T = position_P_.rows(length_, T),
                              .doc_start_P = zero_P_,
                              .k_slot_TG = k_slot_TG_.rows(0, T * G),
                              .v_slot_TG = v_slot_TG_.rows(0, T * G),
                              .one = one_,
                              .first = length_},
                             caches_[i]);
  }
  length_ += T;
  if (!last) return;
  model_->next_logits(exec, {.logits_NV = logits_, .rows_N = position_P_.rows(T - 1, 1)},
                      buffers[from]);
}

std::vector<float> Generator::append(const Exec& exec, std::span<const std::int32_t> tokens) {
  require(!tokens.empty(), "generation needs at least one token");
  const auto count = static_cast<std::int64_t>(tokens.size());
  require(length_ + count <= room_.max_tokens,
          "the sequence is full: " + std::to_string(length_ + count) + " tokens wanted, room for " +
              std::to_string(room_.max_tokens));
  const std::int64_t V = model_->config().vocab_size;
  for (const std::int32_t token : tokens) {
    require(token >= 0 && token < V, "token " + std::to_string(token) +
                                         " is outside the vocabulary of " + std::to_string(V));
  }
  const auto chunk = static_cast<std::size_t>(room_.max_chunk);
  for (std::size_t at = 0; at < tokens.size(); at += chunk) {
    const std::size_t n = std::min(chunk, tokens.size() - at);
    run_chunk(exec, tokens.subspan(at, n), at + n == tokens.size());
  }
  return download_floats(exec, logits_);
}

}  // namespace shoal::nn
