#include "train/probe_run.hpp"

#include <algorithm>

#include "train/measure.hpp"
#include "train/report.hpp"
#include "train/sources.hpp"

namespace shoal::train {

ProbeRun::ProbeRun(const RunConfig& config, const RankLinks& links)
    : config_{config},
      links_{links},
      shape_{batch_shape(config.training, links.groups->dp_size())} {
  const Communicator& world = links.groups->world();
  const DeviceKind device = choose_device(config.training.device);
  const auto paper = parallel::ProcessGroups::on_paper(config.parallel, world.size(), world.rank());
  exec_.emplace(device, measure(config, shape_, device, paper).memory);
  state_.emplace(*exec_, config_, links_);
  step_.emplace(*exec_, config_, shape_, *state_);
  start();
}

void ProbeRun::start() {
  state_->initialise(*exec_, static_cast<std::uint64_t>(config_.training.seed));
}

void ProbeRun::note_samples(const data::StepBatch& batch) {
  samples_.assign(
      static_cast<std::size_t>(config_.training.global_batch_size * config_.training.seq_len), -1);
  for (std::int64_t i = 0; i < batch.num_micro_batches(); ++i) {
    const data::BatchView view = batch.micro_batch(i);
    std::copy(view.token_T.begin(), view.token_T.end(), samples_.begin() + view.first_token);
  }
}

void ProbeRun::step() {
  data::Loader loader{{.seed = static_cast<std::uint64_t>(config_.training.seed),
                       .sequence = config_.training.seq_len,
                       .global_batch = config_.training.global_batch_size,
                       .micro_batch = shape_.micro_batch,
                       .cross_document = config_.model.cross_document},
                      open_sources(config_),
                      {.index = links_.groups->dp_rank(), .count = links_.groups->dp_size()}};
  const data::StepBatch& batch = loader.next();
  note_samples(batch);
  const std::int64_t targets =
      links_.groups->dp().all_reduce_value(batch.targets(), comm::ReduceOp::sum);
  step_->enqueue(*exec_, {.batch = &batch,
                          .targets = targets,
                          .scalars = {.lr = static_cast<float>(config_.optim.lr),
                                      .mu = static_cast<float>(optim::momentum(config_.optim, 0)),
                                      .seed = config_.training.seed}});
  result_ = step_->next_result();
  loss_ = ResultReader{config_, shape_, state_->model_state()}.numbers(result_, targets).loss;
}

GlobalTensors ProbeRun::weights() const {
  return gather_global(config_, *state_, optimizer_fields(*exec_, state_->optimizer()).front());
}

GlobalTensors ProbeRun::gradients() const {
  return gather_global(config_, *state_, gradient_field(*exec_, state_->store()));
}

}  // namespace shoal::train
