#include "train/planted_fault.hpp"

#include <algorithm>

#include "shoal/base/error.hpp"
#include "shoal/nn/parameter_runs.hpp"

namespace shoal::train {
namespace {

using Shard = parallel::RowShard;

/// Calls f on the values of a whole local gradient, on the host.
template <class F>
void change_gradient(const Exec& exec, const TrainState& state, const Shard& shard, const F& f) {
  std::vector<float> values(static_cast<std::size_t>(shard.elements()));
  const Field field = gradient_field(exec, state.store());
  const Field::Window whole{.parameter = shard.parameter, .first = 0, .count = shard.elements()};
  field.get(whole, reinterpret_cast<std::byte*>(values.data()));
  std::for_each(values.begin(), values.end(), f);
  field.set(whole, reinterpret_cast<const std::byte*>(values.data()));
}

void skip_reduction(ProbeRun& run) {
  const auto& shards = run.state().optimizer().plan().shards();
  const auto shared =
      std::find_if(shards.begin(), shards.end(), [](const Shard& s) { return s.member.size > 1; });
  require(shared != shards.end(),
          "verify.fault = skip_reduction: no gradient of this layout is reduced");
  const Shard shard = *shared;
  run.train_step().set_probe([&run, shard](const Exec& exec) {
    if (shard.member.rank == 0) return;
    change_gradient(exec, run.state(), shard, [](float& g) { g = 0.0F; });
  });
}

void double_gradient(ProbeRun& run) {
  const auto& shards = run.state().optimizer().plan().shards();
  const bool here = run.state().links().groups->world().is_root();
  run.train_step().set_probe([&run, here, shard = shards.front()](const Exec& exec) {
    if (here) change_gradient(exec, run.state(), shard, [](float& g) { g *= 2.0F; });
  });
}

/// Exchanges the working weights of the first two experts of this rank in one parameter.
void swap_experts(ProbeRun& run) {
  const nn::ParameterStore& store = run.state().store();
  for (const nn::Parameter& p : store.layout().parameters()) {
    if (p.spec.name.find("mlp.experts.gate_proj") == std::string::npos) continue;
    const Shape local = nn::local_shape(p.spec.slice);
    require(local[0] >= 2, "verify.fault = swap_experts: a rank holds fewer than two experts");
    const std::int64_t n = local.elements() / local[0];
    const auto one = nn::storage_runs(p.storage, 0, n), two = nn::storage_runs(p.storage, n, n);
    expect(one.size() == 1 && two.size() == 1, "an expert lies in one piece");
    const TensorView a = store.elem_values().rows(one[0].offset, n);
    const TensorView b = store.elem_values().rows(two[0].offset, n);
    std::vector<std::byte> x(static_cast<std::size_t>(a.bytes())), y(x.size());
    download(run.exec(), x.data(), a.bytes_begin(), a.bytes());
    download(run.exec(), y.data(), b.bytes_begin(), b.bytes());
    upload(run.exec(), a.bytes_begin(), y.data(), a.bytes());
    upload(run.exec(), b.bytes_begin(), x.data(), b.bytes());
    run.exec().synchronize();
    return;
  }
}

}  // namespace

Fault fault_from_name(const std::string& name) {
  if (name == "none") return Fault::none;
  if (name == "skip_reduction") return Fault::skip_reduction;
  if (name == "double_gradient") return Fault::double_gradient;
  if (name == "swap_experts") return Fault::swap_experts;
  if (name == "aux_scale") return Fault::aux_scale;
  throw InputError("verify.fault = " + name +
                   ": allowed: none skip_reduction double_gradient swap_experts aux_scale");
}

RunConfig with_fault(const RunConfig& config, Fault fault) {
  RunConfig changed = config;
  if (fault == Fault::aux_scale) {
    require(config.model.router_aux_loss_coef > 0.0,
            "verify.fault = aux_scale: needs model.router_aux_loss_coef above 0");
    changed.model.router_aux_loss_coef *= 2.0;
  }
  return changed;
}

void plant(Fault fault, ProbeRun& run) {
  if (fault == Fault::skip_reduction) skip_reduction(run);
  if (fault == Fault::double_gradient) double_gradient(run);
  if (fault == Fault::swap_experts) swap_experts(run);
}

}  // namespace shoal::train
