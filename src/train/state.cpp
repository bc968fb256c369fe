#include "shoal/train/state.hpp"

#include "shoal/parallel/comm_shard_group.hpp"
#include "shoal/parallel/expert_dispatcher.hpp"
#include "shoal/pipeline/stage_split.hpp"

namespace shoal::train {
namespace {

std::vector<nn::StageRange> ranges_of(const RunConfig& config,
                                      const parallel::ProcessGroups& groups) {
  const pipeline::ScheduleShape shape = schedule_shape(config.parallel, 1);
  const auto layers = pipeline::chunk_layers({.config = config.model,
                                              .stages = config.parallel.stages,
                                              .sequence = config.training.seq_len},
                                             shape);
  return pipeline::rank_ranges(layers, shape, groups.pp().rank());
}

std::unique_ptr<nn::ShardGroup> make_tensor_group(comm::TensorCollectives& collectives) {
  if (collectives.size() == 1) return std::make_unique<nn::LocalShardGroup>();
  return std::make_unique<parallel::CommShardGroup>(collectives);
}

}  // namespace

std::unique_ptr<comm::TensorCollectives> RankLinks::make(const Communicator& group) const {
  return factory->make(group);
}

bool plans_device_messages(const parallel::ParallelConfig& config, DeviceKind device) {
  const bool mpi = comm::parse_transport_choice(config.comm) == comm::TransportChoice::mpi;
  return device == DeviceKind::cuda && !mpi;
}

comm::CollectivesOptions collectives_options(const parallel::ParallelConfig& config) {
  return {.choice = comm::parse_transport_choice(config.comm), .timeout_s = config.timeout_s};
}

pipeline::ScheduleShape schedule_shape(const parallel::ParallelConfig& config,
                                       std::int64_t micro_batches) {
  return {.kind = pipeline::schedule_from_name(config.schedule),
          .stages = config.pp,
          .micro_batches = static_cast<int>(micro_batches),
          .chunks = config.chunks};
}

nn::RankLayout rank_layout(const RunConfig& config, const parallel::ProcessGroups& groups) {
  return nn::make_layout(config.model, ranges_of(config, groups),
                         nn::Placement{.tp = groups.tp().size(),
                                       .tp_rank = groups.tp().rank(),
                                       .ep = groups.ep().size(),
                                       .ep_rank = groups.ep().rank()});
}

TrainState::TrainState(const Exec& exec, const RunConfig& config, const RankLinks& links)
    : links_{links},
      layout_{rank_layout(config, *links.groups)},
      store_{exec, layout_.parameters, parse_precision(config.training.precision), true},
      model_state_{nn::make_model_state(exec, config.model, ranges_of(config, *links.groups))},
      tp_{links.make(links.groups->tp())},
      ep_{links.make(links.groups->ep())},
      tensor_group_{make_tensor_group(*tp_)},
      dispatcher_{make_dispatcher(exec, config)},
      optimizer_{exec,
                 store_,
                 {layout_.parameters, links.groups->layout(), links.groups->world().rank(),
                  config.parallel.zero},
                 config.optim} {
  for (const nn::StageLayout& stage : layout_.stages) {
    chunks_.emplace_back(
        nn::ModelParts{.config = config.model,
                       .compute = config.compute,
                       .layout = stage,
                       .store = store_,
                       .state = model_state_,
                       .groups = {.tensor = tensor_group_.get(), .dispatcher = dispatcher_.get()}});
  }
}
TrainState::~TrainState() = default;

std::unique_ptr<nn::TokenDispatcher> TrainState::make_dispatcher(const Exec& exec,
                                                                 const RunConfig& config) {
  const Communicator& ep = links_.groups->ep();
  if (ep.size() == 1) {
    return std::make_unique<nn::LocalDispatcher>(config.model.num_experts,
                                                 config.model.capacity_factor);
  }
  if (config.parallel.ep_buffer_factor > 0.0) {
    overflow_ = persistent(exec, {1}, DType::f32, MemoryKind::state);
  }
  const parallel::ExpertDispatcherParts parts{.experts = config.model.num_experts,
                                              .buffer_factor = config.parallel.ep_buffer_factor,
                                              .capacity_factor = config.model.capacity_factor,
                                              .overflow = overflow_,
                                              .group = ep,
                                              .collectives = *ep_};
  return std::make_unique<parallel::ExpertDispatcher>(
      parts, exec.is_dry() ? DeviceKind::cpu : exec.device());
}

void TrainState::initialise(const Exec& exec, std::uint64_t seed) const {
  optimizer_.reset(exec);
  optimizer_.initialise(exec, seed);
}

bool TrainState::capturable() const {
  const parallel::ProcessGroups& groups = *links_.groups;
  const bool tensor = groups.tp().size() == 1 || tp_->capturable();
  return tensor && groups.ep().size() == 1;
}

ForwardChain::Parts chain_parts(const Exec& exec, const RunConfig& config, const BatchShape& shape,
                                const TrainState& state) {
  const parallel::ProcessGroups& groups = *state.links().groups;
  ForwardChain::Parts parts{
      .chunks = {},
      .shape = schedule_shape(config.parallel, shape.micro_batches),
      .group = groups.pp(),
      .tokens = shape.micro_batch * shape.seq_len / groups.tp().size(),
      .factory = state.links().factory,
      .plans_device_messages = plans_device_messages(config.parallel, exec.device())};
  for (const nn::Model& chunk : state.chunks()) parts.chunks.push_back(&chunk);
  return parts;
}

}  // namespace shoal::train
