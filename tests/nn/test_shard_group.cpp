// Two ranks as two threads: modules that share heads or columns and split the tokens (tensor and
// sequence parallelism) give the results of the whole module.
#include "shoal/nn/shard_group.hpp"

#include <gtest/gtest.h>

#include <array>

#include "thread_group.hpp"

namespace shoal::nn::test {
namespace {

constexpr int kRanks = 2;

struct Box {
  std::int64_t row, rows, column, columns;
};
/// A box of a matrix of `width` columns.
std::vector<float> block(const std::vector<float>& m, std::int64_t width, const Box& box) {
  std::vector<float> out;
  for (std::int64_t r = box.row; r < box.row + box.rows; ++r) {
    const auto begin = m.begin() + r * width + box.column;
    out.insert(out.end(), begin, begin + box.columns);
  }
  return out;
}
std::vector<float> joined(std::vector<float> a, const std::vector<float>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A matrix with its gradient.
struct Matrix {
  Matrix(const Exec& exec, Shape shape, const std::vector<float>& values)
      : value{from_values(exec, shape, DType::f32, values)},
        grad{poisoned(exec, shape, DType::f32)} {}
  [[nodiscard]] Weight weight() const { return {value, grad}; }
  Tensor value, grad;
};

constexpr std::int64_t kT = 12, kD = 10, kF = 6;

struct MlpResult {
  std::vector<float> y, dx, dgate_up, ddown;
};
/// Forward and backward of one rank on its tokens; y starts as x and is added to.
MlpResult run_mlp(ShardGroup& group, const std::vector<float>& gate_up,
                  const std::vector<float>& down, const std::vector<float>& x,
                  const std::vector<float>& dy) {
  Exec exec = make_exec(DeviceKind::cpu, 8);
  const std::int64_t F = kF / group.size(), T = kT / group.size();
  const Matrix w{exec, {2 * F, kD}, gate_up}, v{exec, {kD, F}, down};
  const Mlp mlp{w.weight(), v.weight(), &group};
  const Tensor x_TD = from_values(exec, {T, kD}, DType::f32, x);
  const Tensor y_TD = from_values(exec, {T, kD}, DType::f32, x);
  const Tensor dy_TD = from_values(exec, {T, kD}, DType::f32, dy);
  const Tensor dx_TD = poisoned(exec, {T, kD}, DType::f32);
  const MlpSaved saved = mlp.reserve(exec.scratch(), kT, Recompute::none);
  MlpDelta delta = mlp.reserve_delta(exec.scratch(), kT);
  mlp.forward(exec, {.y_TD = y_TD, .x_TD = x_TD, .accumulate = ops::Accumulate::add}, saved);
  mlp.backward_input(exec, {.dx_TD = dx_TD, .dy_TD = dy_TD}, saved, delta);
  mlp.backward_weight(exec, x_TD, saved, delta, ops::Accumulate::overwrite);
  return {download_floats(exec, y_TD), download_floats(exec, dx_TD), download_floats(exec, w.grad),
          download_floats(exec, v.grad)};
}

std::vector<float> random(std::int64_t n, std::uint64_t seed) {
  const Exec exec = make_exec(DeviceKind::cpu, 1);
  return download_floats(exec, normal(exec, {n}, DType::f32, seed));
}

TEST(ShardedMlp, SplitOverColumnsAndTokensEqualsTheWhole) {
  const std::vector<float> gate_up = random(2 * kF * kD, 1), down = random(kD * kF, 2);
  const std::vector<float> x = random(kT * kD, 3), dy = random(kT * kD, 4);
  LocalShardGroup one;
  const MlpResult expected = run_mlp(one, gate_up, down, x, dy);
  const std::int64_t F = kF / kRanks, T = kT / kRanks;
  const auto gate_up_of = [&](const std::vector<float>& m, int r) {
    return joined(block(m, kD, {r * F, F, 0, kD}), block(m, kD, {kF + r * F, F, 0, kD}));
  };
  std::array<MlpResult, kRanks> got;
  on_ranks(kRanks, [&](int r, ShardGroup& group) {
    got[static_cast<std::size_t>(r)] =
        run_mlp(group, gate_up_of(gate_up, r), block(down, kF, {0, kD, r * F, F}),
                block(x, kD, {r * T, T, 0, kD}), block(dy, kD, {r * T, T, 0, kD}));
  });
  EXPECT_LE(distance(joined(got[0].y, got[1].y), expected.y), 1e-6);
  EXPECT_LE(distance(joined(got[0].dx, got[1].dx), expected.dx), 1e-6);
  for (int r = 0; r < kRanks; ++r) {
    const MlpResult& part = got[static_cast<std::size_t>(r)];
    EXPECT_LE(distance(part.dgate_up, gate_up_of(expected.dgate_up, r)), 1e-6);
    EXPECT_LE(distance(part.ddown, block(expected.ddown, kF, {0, kD, r * F, F})), 1e-6);
  }
}

constexpr std::int64_t kHeads = 4, kGroups = 2, kWidth = 4;  // heads of four

struct AttentionResult {
  std::vector<float> y, dx, dqkv, do_proj;
};
AttentionResult run_attention(ShardGroup& group, const std::vector<float>& qkv,
                              const std::vector<float>& o_proj, const std::vector<float>& x,
                              const std::vector<float>& dy) {
  Exec exec = make_exec(DeviceKind::cpu, 8);
  const ops::HeadLayout heads{kHeads / group.size(), kGroups / group.size(), kWidth};
  const std::int64_t T = kT / group.size(), C = heads.heads * kWidth;
  const Matrix w{exec, {heads.qkv_columns(), kD}, qkv}, o{exec, {kD, C}, o_proj};
  const Tensor table = from_values(exec, {kT, kWidth / 2}, DType::f32, random(kT * 2, 9));
  const Attention attention{{.heads = heads,
                             .qkv = w.weight(),
                             .o_proj = o.weight(),
                             .cos_PC = table,
                             .sin_PC = table,
                             .max_position = kT,
                             .group = &group}};
  const DeviceBatch batch{exec, random_batch(1, kT, 5, {4})};
  const StepScalars none;
  const Pass pass{.batch = batch.view(), .scalars = none};
  const Tensor x_TD = from_values(exec, {T, kD}, DType::f32, x);
  const Tensor dy_TD = from_values(exec, {T, kD}, DType::f32, dy);
  const Tensor y_TD = poisoned(exec, {T, kD}, DType::f32),
               dx_TD = poisoned(exec, {T, kD}, DType::f32);
  const AttentionSaved saved = attention.reserve(exec.scratch(), kT, Recompute::none);
  AttentionDelta delta = attention.reserve_delta(exec.scratch(), kT);
  attention.forward(exec, pass, y_TD, x_TD, saved);
  attention.backward_input(exec, pass, {.dx_TD = dx_TD, .dy_TD = dy_TD, .x_TD = {}}, saved, delta);
  attention.backward_weight(exec, {.x_TD = x_TD}, saved, delta);
  return {download_floats(exec, y_TD), download_floats(exec, dx_TD), download_floats(exec, w.grad),
          download_floats(exec, o.grad)};
}

TEST(ShardedAttention, SplitOverHeadsAndTokensEqualsTheWhole) {
  constexpr std::int64_t kQ = kHeads * kWidth, kKv = kGroups * kWidth, T = kT / kRanks;
  const std::vector<float> qkv = random((kQ + 2 * kKv) * kD, 1), o_proj = random(kD * kQ, 2);
  const std::vector<float> x = random(kT * kD, 3), dy = random(kT * kD, 4);
  LocalShardGroup one;
  const AttentionResult expected = run_attention(one, qkv, o_proj, x, dy);
  const auto qkv_of = [&](const std::vector<float>& m, int r) {
    const std::int64_t q = kQ / kRanks, kv = kKv / kRanks;
    return joined(joined(block(m, kD, {r * q, q, 0, kD}), block(m, kD, {kQ + r * kv, kv, 0, kD})),
                  block(m, kD, {kQ + kKv + r * kv, kv, 0, kD}));
  };
  const auto o_proj_of = [&](const std::vector<float>& m, int r) {
    return block(m, kQ, {0, kD, r * kQ / kRanks, kQ / kRanks});
  };
  std::array<AttentionResult, kRanks> got;
  on_ranks(kRanks, [&](int r, ShardGroup& group) {
    got[static_cast<std::size_t>(r)] =
        run_attention(group, qkv_of(qkv, r), o_proj_of(o_proj, r), block(x, kD, {r * T, T, 0, kD}),
                      block(dy, kD, {r * T, T, 0, kD}));
  });
  EXPECT_LE(distance(joined(got[0].y, got[1].y), expected.y), 1e-6);
  EXPECT_LE(distance(joined(got[0].dx, got[1].dx), expected.dx), 1e-6);
  for (int r = 0; r < kRanks; ++r) {
    const AttentionResult& part = got[static_cast<std::size_t>(r)];
    EXPECT_LE(distance(part.dqkv, qkv_of(expected.dqkv, r)), 1e-6);
    EXPECT_LE(distance(part.do_proj, o_proj_of(expected.do_proj, r)), 1e-6);
  }
}

}  // namespace
}  // namespace shoal::nn::test
