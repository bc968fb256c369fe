// bench_passes: the time of each memory-bound pass of a training step, and the share of this
// device's copy bandwidth that it reaches if every input is read and every output written once.
// Needs a GPU. Usage: bench_passes [shape or "" [words of passes]]
#include <cmath>
#include <string>

#include "bench/grouped_problem.cuh"
#include "bench/timing.hpp"
#include "shoal/ops/cross_entropy.hpp"
#include "shoal/ops/embedding.hpp"
#include "shoal/ops/partials.hpp"
#include "shoal/ops/permute.hpp"
#include "shoal/ops/qk_norm_rope.hpp"
#include "shoal/ops/rmsnorm.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::bench {
namespace {

using namespace ops;  // NOLINT: the ops are what this file is about

struct Model {
  const char* name;
  std::int64_t tokens, hidden;
  HeadLayout heads;
  std::int64_t experts, per_token, expert_hidden, vocabulary;
};

/// Prints one line a pass.
class Table {
 public:
  Table(const Exec& exec, std::string only) : exec_{exec}, only_{std::move(only)} {
    constexpr std::int64_t kBytes = std::int64_t{1} << 30;
    const Tensor from{DeviceKind::cuda, {kBytes}, DType::u8},
        to{DeviceKind::cuda, {kBytes}, DType::u8};
    const double ms = milliseconds(
        exec, [&] { copy(exec, to.view().bytes_begin(), from.view().bytes_begin(), kBytes); });
    copy_rate_ = 2.0 * kBytes / ms * 1e-6;
    std::printf("copy %.0f GB/s\n", copy_rate_);
  }
  void pass(const std::string& what, std::int64_t bytes, const std::function<void()>& body) const {
    if (what.find(only_) == std::string::npos) return;
    const double ms = milliseconds(exec_, body, 4);
    const double rate = static_cast<double>(bytes) / ms * 1e-6;
    std::printf("  %-32s %8.1f us %6.0f GB/s %4.0f %% of copy\n", what.c_str(), 1e3 * ms, rate,
                100.0 * rate / copy_rate_);
    std::fflush(stdout);
  }
  [[nodiscard]] const Exec& exec() const { return exec_; }
  [[nodiscard]] Tensor random(const Shape& shape, unsigned seed, float scale = 1.0F) const {
    return random_tensor(exec_, shape, DType::bf16, seed, scale);
  }
  [[nodiscard]] Tensor zeros(const Shape& shape, DType dtype) const {
    Tensor t{DeviceKind::cuda, shape, dtype};
    zero(exec_, t);
    return t;
  }
  [[nodiscard]] Tensor integers(const Shape& shape, const std::vector<std::int32_t>& values) const {
    Tensor t{DeviceKind::cuda, shape, DType::i32};
    upload_values(exec_, t, values);
    return t;
  }
  [[nodiscard]] Tensor floats(const Shape& shape, float value) const {
    Tensor t{DeviceKind::cuda, shape, DType::f32};
    upload_values(exec_, t, std::vector<float>(static_cast<std::size_t>(shape.elements()), value));
    return t;
  }

 private:
  const Exec& exec_;
  std::string only_;
  double copy_rate_ = 0.0;  ///< GB/s
};

std::int64_t bytes_of(std::initializer_list<ConstTensorView> views) {
  std::int64_t sum = 0;
  for (const ConstTensorView& v : views) sum += v.bytes();
  return sum;
}

void time_heads(const Table& table, const Model& m) {
  constexpr std::int64_t kPositions = 2048;
  const HeadLayout& h = m.heads;
  const Shape narrow{m.tokens, h.qk_columns()}, row{h.head_dim}, angles{kPositions, h.head_dim / 2};
  std::vector<std::int32_t> positions;
  for (std::int64_t t = 0; t < m.tokens; ++t) {
    positions.push_back(static_cast<std::int32_t>(t % kPositions));
  }
  const Tensor position = table.integers({m.tokens}, positions);
  const Tensor qkv = table.random({m.tokens, h.qkv_columns()}, 1),
               dqkv = table.random(qkv.shape(), 2);
  const Tensor qk = table.random(narrow, 3);
  const Tensor q_weight = table.random(row, 5), k_weight = table.random(row, 6);
  const Tensor cos = table.floats(angles, 0.8F), sin = table.floats(angles, 0.6F);
  const Tensor rstd = table.zeros({m.tokens, h.heads + h.groups}, DType::f32);
  const Tensor dq_weight = table.zeros(row, DType::f32), dk_weight = table.zeros(row, DType::f32);
  const Shape parts{part_count(m.tokens), h.head_dim};
  const Tensor q_part = table.zeros(parts, DType::f32), k_part = table.zeros(parts, DType::f32);
  table.pass("heads forward", bytes_of({qk, qk, rstd}), [&] {
    qk_norm_rope_forward(table.exec(), {.qk_TC = qk,
                                        .rstd_TJ = rstd,
                                        .qkv_TC = qkv,
                                        .q_weight_d = q_weight,
                                        .k_weight_d = k_weight,
                                        .cos_PC = cos,
                                        .sin_PC = sin,
                                        .position_T = position,
                                        .layout = h});
  });
  table.pass("heads backward with weights", bytes_of({qk, qk, qk, rstd}), [&] {
    qk_norm_rope_backward(table.exec(), {.dqkv_TC = dqkv,
                                         .q_part_Pd = q_part,
                                         .k_part_Pd = k_part,
                                         .qkv_TC = qkv,
                                         .rstd_TJ = rstd,
                                         .q_weight_d = q_weight,
                                         .k_weight_d = k_weight,
                                         .cos_PC = cos,
                                         .sin_PC = sin,
                                         .position_T = position,
                                         .layout = h});
    sum_parts(table.exec(), dq_weight, q_part, Accumulate::overwrite);
    sum_parts(table.exec(), dk_weight, k_part, Accumulate::overwrite);
  });
}

void time_norms(const Table& table, const Model& m) {
  const Exec& exec = table.exec();
  const Shape rows{m.tokens, m.hidden};
  const Tensor x = table.random(rows, 1), add = table.random(rows, 2), sum = table.random(rows, 3);
  const Tensor y = table.random(rows, 4), w = table.random({m.hidden}, 5);
  const Tensor rstd = table.zeros({m.tokens}, DType::f32), dw = table.zeros({m.hidden}, DType::f32);
  const Tensor part = table.zeros({part_count(m.tokens), m.hidden}, DType::f32);
  table.pass("norm forward", bytes_of({x, y}), [&] {
    rmsnorm_forward(exec,
                    {.y_TD = y, .rstd_T = rstd, .sum_TD = {}, .x_TD = x, .add_TD = {}, .w_D = w});
  });
  table.pass("norm forward with residual", bytes_of({x, add, sum, y}), [&] {
    rmsnorm_forward(exec,
                    {.y_TD = y, .rstd_T = rstd, .sum_TD = sum, .x_TD = x, .add_TD = add, .w_D = w});
  });
  table.pass("norm backward with weights", bytes_of({x, add, sum, y}), [&] {
    rmsnorm_backward(exec, {.dx_TD = sum,
                            .part_PD = part,
                            .dy_TD = y,
                            .x_TD = x,
                            .w_D = w,
                            .rstd_T = rstd,
                            .add_TD = add});
    sum_parts(exec, dw, part, Accumulate::overwrite);
  });
}

/// K different experts for each token; some experts get several times as many as others.
std::vector<std::int32_t> random_experts(const Model& m) {
  std::mt19937 random{11};
  std::vector<double> skew(static_cast<std::size_t>(m.experts));
  std::normal_distribution<double> normal;
  for (double& s : skew) s = std::exp(0.3 * normal(random));
  std::discrete_distribution<std::int32_t> draw{skew.begin(), skew.end()};
  std::vector<std::int32_t> index;
  for (std::int64_t t = 0; t < m.tokens; ++t) {
    const auto first = static_cast<std::ptrdiff_t>(index.size());
    while (static_cast<std::int64_t>(index.size()) - first < m.per_token) {
      const std::int32_t e = draw(random);
      if (std::find(index.begin() + first, index.end(), e) == index.end()) index.push_back(e);
    }
  }
  return index;
}

struct Routed {
  Routed(const Table& table, const Model& m)
      : index{table.integers({m.tokens, m.per_token}, random_experts(m))},
        count{table.zeros({m.experts}, DType::i32)},
        offset{table.zeros({m.experts + 1}, DType::i32)},
        row_of_slot{table.zeros({m.tokens, m.per_token}, DType::i32)},
        slot_of_row{table.zeros({m.tokens * m.per_token}, DType::i32)} {
    route_plan(table.exec(), {.count_E = count,
                              .offset_E1 = offset,
                              .row_of_slot_TK = row_of_slot,
                              .slot_of_row_R = slot_of_row,
                              .index_TK = index});
  }
  Tensor index, count, offset, row_of_slot, slot_of_row;
};

void time_experts(const Table& table, const Model& m) {
  const Exec& exec = table.exec();
  const Routed routed{table, m};
  const std::int64_t R = m.tokens * m.per_token;
  const Tensor x = table.random({m.tokens, m.hidden}, 1), y = table.random(x.shape(), 2);
  const Tensor rows = table.random({R, m.hidden}, 3);
  const Tensor weight = table.floats({m.tokens, m.per_token}, 0.125F);
  table.pass("scatter to experts", bytes_of({rows, x}), [&] {
    scatter_rows(exec, {rows, x, routed.row_of_slot});
  });
  table.pass("combine with residual", bytes_of({rows, x, y}), [&] {
    combine_rows(exec, {y, rows, routed.row_of_slot, weight, x});
  });
  table.pass("scatter's gradient", bytes_of({rows, x, y}), [&] {
    combine_rows(exec, {y, rows, routed.row_of_slot, {}, x});
  });
}

void time_swiglu(const Table& table, const Model& m) {
  const std::int64_t R = m.tokens * m.per_token;
  const Tensor gate_up = table.random({R, 2 * m.expert_hidden}, 1);
  const Tensor dgate_up = table.random(gate_up.shape(), 2),
               dh = table.random({R, m.expert_hidden}, 3);
  const Tensor limit = table.integers({1}, {static_cast<std::int32_t>(R)});
  table.pass("SwiGLU's gradient", bytes_of({gate_up, dgate_up, dh}), [&] {
    swiglu_backward(table.exec(), {dgate_up, dh, gate_up, limit});
  });
}

/// Ids as words have them: the rank of an id is about uniform on a logarithmic scale.
std::vector<std::int32_t> random_ids(const Model& m) {
  std::mt19937 random{13};
  std::uniform_real_distribution<double> uniform;
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < m.tokens; ++t) {
    const double rank = std::pow(static_cast<double>(m.vocabulary), uniform(random)) - 1.0;
    ids.push_back(static_cast<std::int32_t>(rank));
  }
  return ids;
}

void time_vocabulary(const Table& table, const Model& m) {
  const Exec& exec = table.exec();
  const Tensor token = table.integers({m.tokens}, random_ids(m));
  {
    const Tensor dx = table.random({m.tokens, m.hidden}, 1);
    const Tensor dtable = table.zeros({m.vocabulary, m.hidden}, DType::f32);
    table.pass("embedding's gradient", bytes_of({dx, dtable}), [&] {
      embedding_backward(exec, {.dtable_VD = dtable, .dx_TD = dx, .token_T = token});
    });
  }
  constexpr std::int64_t kChunk = 2048;
  const Tensor logits = table.random({kChunk, m.vocabulary}, 2);
  const Tensor loss = table.zeros({kChunk}, DType::f32), scale = table.floats({1}, 1.0F);
  const Tensor mask{DeviceKind::cuda, {kChunk}, DType::u8};
  shoal::cuda::check(cudaMemsetAsync(mask.view().bytes_begin(), 1, kChunk, exec.cuda().stream));
  table.pass("cross entropy of 2048 tokens", bytes_of({logits, logits}), [&] {
    cross_entropy(exec, {.loss_T = loss,
                         .logits_TV = logits,
                         .target_T = token.view().rows(0, kChunk),
                         .mask_T = mask,
                         .grad_scale = scale});
  });
}

void time_all(const Exec& exec, const std::string& only, const std::string& pass) {
  const Table table{exec, pass};
  for (const Model& m : {Model{"fine", 16384, 2048, {16, 16, 128}, 64, 8, 1024, 50304},
                         Model{"small", 65536, 768, {12, 4, 64}, 8, 2, 2048, 32000}}) {
    if (!only.empty() && only != m.name) continue;
    std::printf("%s: T %lld d %lld heads %lld+%lld of %lld E %lld K %lld n %lld V %lld\n", m.name,
                static_cast<long long>(m.tokens), static_cast<long long>(m.hidden),
                static_cast<long long>(m.heads.heads), static_cast<long long>(m.heads.groups),
                static_cast<long long>(m.heads.head_dim), static_cast<long long>(m.experts),
                static_cast<long long>(m.per_token), static_cast<long long>(m.expert_hidden),
                static_cast<long long>(m.vocabulary));
    for (const auto part : {time_heads, time_norms, time_experts, time_swiglu, time_vocabulary}) {
      part(table, m);
    }
  }
}

}  // namespace
}  // namespace shoal::bench

int main(int argc, char** argv) {
  try {
    const shoal::Exec exec{shoal::DeviceKind::cuda,
                           {.persistent = 0, .saved = {}, .scratch = std::int64_t{1} << 30}};
    shoal::bench::time_all(exec, argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "");
    return 0;
  } catch (const std::exception& e) {
    std::printf("bench_passes: %s\n", e.what());
    return 1;
  }
}
