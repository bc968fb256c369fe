#include <cmath>
#include <set>

#include "shoal/ops/attention.hpp"
#include "shoal/ops/partials.hpp"
#include "shoal/ops/qk_norm_rope.hpp"
#include "train/kernel_bench.hpp"

namespace shoal::train {
namespace {

template <class Heads>
Heads heads(const TensorView& rows, std::int64_t head_dim) {
  return {.rows = rows, .first = 0, .heads = rows.dim(1) / head_dim, .head_dim = head_dim};
}

ops::HeadLayout head_layout(const nn::ModelConfig& model) {
  return {.heads = model.num_attention_heads,
          .groups = model.num_key_value_heads,
          .head_dim = model.head_dim};
}

}  // namespace

void KernelBench::attention() {
  for (const std::int64_t head_dim : std::set<std::int64_t>{64, 128, config_.model.head_dim}) {
    for (const std::int64_t times : {1, 2, 4}) {
      if (shape_.micro_batch % times != 0) continue;
      attention({.sequence = times * shape_.seq_len, .head_dim = head_dim});
    }
  }
}

void KernelBench::attention(const AttentionShape& shape) {
  const ScratchScope scope{exec_};
  const std::int64_t T = tokens(), H = config_.model.num_attention_heads, d = shape.head_dim;
  const std::int64_t G = config_.model.num_key_value_heads, S = shape.sequence;
  const TensorView start = scratch(exec_, {T}, DType::i32);
  write_sequence_starts(start, S);
  const TensorView q = random({T, H * d}), k = random({T, G * d}), v = random({T, G * d});
  const TensorView out = random({T, H * d}), dout = random({T, H * d}), dq = random({T, H * d});
  const TensorView dk = random({T, G * d}), dv = random({T, G * d});
  const TensorView lse = scratch(exec_, {H, T}, DType::f32);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
  const ops::AttentionForward forward{.out = heads<ops::Heads>(out, d),
                                      .lse_HT = lse,
                                      .q = heads<ops::ConstHeads>(q, d),
                                      .k = heads<ops::ConstHeads>(k, d),
                                      .v = heads<ops::ConstHeads>(v, d),
                                      .doc_start_T = start,
                                      .active_groups_T = {},
                                      .scale = scale};
  const ops::AttentionBackward backward{.dq = heads<ops::Heads>(dq, d),
                                        .dk = heads<ops::Heads>(dk, d),
                                        .dv = heads<ops::Heads>(dv, d),
                                        .dout = heads<ops::ConstHeads>(dout, d),
                                        .out = heads<ops::ConstHeads>(out, d),
                                        .q = forward.q,
                                        .k = forward.k,
                                        .v = forward.v,
                                        .lse_HT = lse,
                                        .doc_start_T = start,
                                        .active_groups_T = {},
                                        .scale = scale};
  const io::Json sizes = {{"T", T}, {"S", S}, {"H", H}, {"G", G}, {"d", d}};
  const double flops = 2.0 * static_cast<double>(T * S) * static_cast<double>(H * d);  // causal
  time("attention_forward", sizes, {.flops = flops},
       [&] { ops::attention_forward(exec_, forward); });
  time("attention_backward", sizes, {.flops = 2.5 * flops},
       [&] { ops::attention_backward(exec_, backward); });
}

void KernelBench::write_sequence_starts(const TensorView& start_T, std::int64_t sequence) const {
  if (exec_.is_dry()) return;
  std::vector<std::int32_t> starts;
  for (std::int64_t t = 0; t < start_T.elements(); ++t) {
    starts.push_back(static_cast<std::int32_t>(t - t % sequence));
  }
  upload(exec_, start_T.bytes_begin(), starts.data(), start_T.bytes());
  exec_.synchronize();
}

void KernelBench::head_norm() {
  const ScratchScope scope{exec_};
  const ops::HeadLayout layout = head_layout(config_.model);
  const std::int64_t T = tokens(), C = layout.qk_columns(), d = layout.head_dim;
  const std::int64_t S = shape_.seq_len;
  const TensorView qkv = random({T, layout.qkv_columns()}), qk = random({T, C});
  const TensorView dqkv = random(qkv.shape()), weight = random({d});
  const TensorView rstd = scratch(exec_, {T, layout.heads + layout.groups}, DType::f32);
  const TensorView cos = random({S, d / 2}, DType::f32), sin = random({S, d / 2}, DType::f32);
  const TensorView dweight = random({d}, DType::f32);
  const ConstTensorView position = block_.batch(0).position_T;
  const io::Json sizes = {{"T", T}, {"H", layout.heads}, {"G", layout.groups}, {"d", d}};
  const ops::QkNormRopeForward forward{.qk_TC = qk,
                                       .rstd_TJ = rstd,
                                       .qkv_TC = qkv,
                                       .q_weight_d = weight,
                                       .k_weight_d = weight,
                                       .cos_PC = cos,
                                       .sin_PC = sin,
                                       .position_T = position,
                                       .layout = layout};
  time("head_norm_forward", sizes, {.bytes = bytes_of(2 * T * C)},
       [&] { ops::qk_norm_rope_forward(exec_, forward); });
  const TensorView q_part = ops::scratch_parts(exec_, T, d);
  const TensorView k_part = ops::scratch_parts(exec_, T, d);
  const ops::QkNormRopeBackward backward{.dqkv_TC = dqkv,
                                         .q_part_Pd = q_part,
                                         .k_part_Pd = k_part,
                                         .qkv_TC = qkv,
                                         .rstd_TJ = rstd,
                                         .q_weight_d = weight,
                                         .k_weight_d = weight,
                                         .cos_PC = cos,
                                         .sin_PC = sin,
                                         .position_T = position,
                                         .layout = layout};
  time("head_norm_backward", sizes, {.bytes = bytes_of(3 * T * C)}, [&] {
    ops::qk_norm_rope_backward(exec_, backward);
    ops::sum_parts(exec_, dweight, q_part, ops::Accumulate::overwrite);
    ops::sum_parts(exec_, dweight, k_part, ops::Accumulate::overwrite);
  });
}

}  // namespace shoal::train
