#include "shoal/train/state.hpp"

#include "train/parameter_io.hpp"

namespace shoal::train {

TrainState::TrainState(const Exec& exec, const RunConfig& config,
                       const parallel::ProcessGroups& groups)
    : layout_{nn::make_layout(config.model, nn::whole_model(config.model))},
      store_{exec, layout_.parameters, parse_precision(config.training.precision), true},
      model_state_{nn::make_model_state(exec, config.model)},
      dispatcher_{config.model.num_experts, config.model.capacity_factor},
      model_{{.config = config.model,
              .compute = config.compute,
              .layout = layout_.stages.front(),
              .store = store_,
              .state = model_state_,
              .groups = {.tensor = &tensor_group_, .dispatcher = &dispatcher_}}},
      optimizer_{exec,
                 store_,
                 {layout_.parameters, groups.layout(), groups.world().rank(), config.parallel.zero},
                 config.optim} {}

void TrainState::initialise(const Exec& exec, std::uint64_t seed) const {
  optimizer_.reset(exec);
  const std::vector<Field> fields = optimizer_fields(exec, optimizer_);
  int index = 0;
  for (const nn::Parameter& p : layout_.parameters.parameters()) {
    fill_initial({.field = &fields.front(), .spec = &p.spec, .parameter = index++}, seed);
  }
}

}  // namespace shoal::train
