#include "train/global_tensors.hpp"

#include <algorithm>

#include "shoal/nn/parameter_runs.hpp"

namespace shoal::train {
namespace {

std::vector<float> pack_counted(const parallel::ShardPlan& plan, const Field& field) {
  std::vector<float> packed;
  for (const parallel::RowShard& shard : plan.shards()) {
    if (!shard.counted || shard.held_elements() == 0) continue;
    const std::size_t at = packed.size();
    packed.resize(at + static_cast<std::size_t>(shard.held_elements()));
    field.get({.parameter = shard.parameter,
               .first = shard.first_element(),
               .count = shard.held_elements()},
              reinterpret_cast<std::byte*>(packed.data() + at));
  }
  return packed;
}

/// Puts what a rank packed where it belongs; returns what follows.
const float* unpack_counted(const parallel::ShardPlan& plan, const float* from,
                            GlobalTensors& out) {
  for (const parallel::RowShard& shard : plan.shards()) {
    if (!shard.counted || shard.held_elements() == 0) continue;
    const nn::ParameterSpec& spec =
        plan.layout().parameters()[static_cast<std::size_t>(shard.parameter)].spec;
    std::vector<float>& whole = out[spec.name];
    whole.resize(static_cast<std::size_t>(spec.shape.elements()));
    const std::int64_t end = shard.first_element() + shard.held_elements();
    for (std::int64_t local = shard.first_element(); local < end;) {
      const nn::GlobalRun run = nn::global_run(spec, local);
      const std::int64_t count = std::min(run.count, end - local);
      std::copy_n(from, count, whole.begin() + run.global);
      from += count;
      local += count;
    }
  }
  return from;
}

}  // namespace

Field gradient_field(const Exec& exec, const nn::ParameterStore& store) {
  const auto each_run = [&store](const Field::Window& w, const auto& body) {
    const nn::Parameter& p = store.layout().parameters()[static_cast<std::size_t>(w.parameter)];
    const std::int64_t base = store.layout().gradient_base(p.spec.keep_f32);
    for (const nn::StorageRun& run : nn::storage_runs(p.storage, w.first, w.count)) {
      const TensorView piece = store.gradients().rows(base + run.offset, run.count);
      body(piece, (run.local - w.first) * size_of(DType::f32));
    }
  };
  return {.group = "gradients",
          .get =
              [&exec, each_run](const Field::Window& w, std::byte* host) {
                each_run(w, [&](const TensorView& piece, std::int64_t at) {
                  download(exec, host + at, piece.bytes_begin(), piece.bytes());
                });
                exec.synchronize();
              },
          .set =
              [&exec, each_run](const Field::Window& w, const std::byte* host) {
                each_run(w, [&](const TensorView& piece, std::int64_t at) {
                  upload(exec, piece.bytes_begin(), host + at, piece.bytes());
                });
                exec.synchronize();
              }};
}

GlobalTensors gather_global(const RunConfig& config, const TrainState& state, const Field& field) {
  const Communicator& world = state.links().groups->world();
  const std::vector<float> mine = pack_counted(state.optimizer().plan(), field);
  const std::vector<float> all = world.gather_v(mine, 0);
  GlobalTensors out;
  if (!world.is_root()) return out;
  const float* at = all.data();
  for (int rank = 0; rank < world.size(); ++rank) {
    const auto groups = parallel::ProcessGroups::on_paper(config.parallel, world.size(), rank);
    const nn::RankLayout layout = rank_layout(config, groups);
    at = unpack_counted({layout.parameters, groups.layout(), rank, config.parallel.zero}, at, out);
  }
  return out;
}

}  // namespace shoal::train
