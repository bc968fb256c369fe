#pragma once
#include "shoal/nn/parameter_runs.hpp"
#include "shoal/parallel/shard_plan.hpp"

/// A small set of parameters with every kind of slice and replica group.
namespace shoal::test {

inline nn::ParameterSpec plain_spec(const std::string& name, const Shape& shape,
                                    unsigned replicas) {
  return {.name = name, .shape = shape, .slice = nn::whole(shape), .replicas = replicas};
}

/// A table that is tied when pp > 1, rows dealt round-robin, columns of a matrix, a norm of odd
/// length, experts with two parts each and an fp32 router. With two stages the first has the first
/// three, the last the table and the others.
inline nn::ParameterLayout sharded_layout(const parallel::Layout& ranks, int rank) {
  const int tp = ranks.dense.size("tp"), t = ranks.dense.coord(rank, "tp");
  const int ep = ranks.expert.size("ep"), e = ranks.expert.coord(rank, "ep");
  const int stages = ranks.dense.size("pp"), stage_index = ranks.dense.coord(rank, "pp");
  const unsigned dense = nn::kDp | nn::kCp, stage = dense | nn::kTp, experts = nn::kEdp | nn::kCp;
  nn::ParameterLayout layout;
  nn::ParameterSpec table = plain_spec("table", {12, 4}, dense);
  if (stages > 1) table.replicas |= nn::kPp;
  table.slice[0] = {.start = t * 12 / tp, .stride = 12 / tp, .count = 1, .block = 12 / tp};
  layout.add({table}, nn::local_shape(table.slice));
  nn::ParameterSpec dealt = plain_spec("dealt", {8, 6}, dense);
  dealt.slice[0] = {.start = t * 2L, .stride = tp * 2L, .count = 4 / tp, .block = 2};
  if (stage_index == 0) layout.add({dealt}, nn::local_shape(dealt.slice));
  nn::ParameterSpec columns = plain_spec("columns", {5, 8}, dense);
  columns.slice[1] = {.start = t * 2L, .stride = tp * 2L, .count = 4 / tp, .block = 2};
  if (stage_index == 0) layout.add({columns}, nn::local_shape(columns.slice));
  if (stage_index < stages - 1) {
    layout.finish();
    return layout;
  }
  nn::ParameterSpec norm = plain_spec("norm", {7}, stage);
  norm.decay = false;
  layout.add({norm}, {7});
  std::vector<nn::ParameterSpec> pair = {plain_spec("gate", {4, 3, 4}, experts),
                                         plain_spec("up", {4, 3, 4}, experts)};
  for (nn::ParameterSpec& spec : pair) {
    spec.slice[0] = {.start = e * 4 / ep, .stride = 4 / ep, .count = 1, .block = 4 / ep};
  }
  layout.add(pair, {4 / ep, 6, 4}, 4 / ep);
  nn::ParameterSpec router = plain_spec("router", {2, 4}, stage);
  router.keep_f32 = true;
  layout.add({router}, {2, 4});
  layout.finish();
  return layout;
}

/// Calls f(global index) for local elements [first, first + count) of a parameter, in order.
template <class F>
void for_each_global(const nn::ParameterSpec& spec, std::int64_t first, std::int64_t count, F f) {
  for (std::int64_t at = first; at < first + count; ++at) f(nn::global_run(spec, at).global);
}

}  // namespace shoal::test
