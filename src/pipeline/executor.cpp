#include "shoal/pipeline/executor.hpp"

#include <utility>

#include "shoal/base/clock.hpp"
#include "shoal/base/error.hpp"
#include "shoal/pipeline/message_plan.hpp"
#include "shoal/pipeline/timeline.hpp"

namespace shoal::pipeline {
namespace {

using comm::Direction;

/// The ways on which a rank sends: activations to the next chunks' ranks, gradients to the ones
/// before.
std::vector<comm::HostPointToPointOptions::Channel> channels_of(const ScheduleShape& shape,
                                                                int rank) {
  std::vector<comm::HostPointToPointOptions::Channel> channels;
  for (int c = 0; c < shape.chunks; ++c) {
    for (const int step : {1, -1}) {
      const int other = model_chunk(shape, {rank, c}) + step;
      if (other < 0 || other >= shape.model_chunks()) continue;
      const int to = place_of(shape, other).rank;
      const Direction direction = step > 0 ? Direction::activation : Direction::gradient;
      bool known = to == rank;
      for (const auto& k : channels) known = known || (k.to == to && k.direction == direction);
      if (!known) channels.push_back({to, direction});
    }
  }
  return channels;
}

}  // namespace

std::unique_ptr<comm::PointToPoint> make_links(const Exec& exec, const ExecutorParts& parts) {
  const Border border = parts.verbs.border();
  comm::PointToPointOptions options{
      .host = {.message_bytes = border.shape.elements() * size_of(border.dtype),
               .depth = channel_depth(parts.shape) + 1},  // real stages are not all equal
      .plan = message_plan(parts.shape, parts.group.rank())};
  if (exec.is_dry()) {
    if (parts.plans_device_messages) {
      static_cast<void>(comm::reserve_buffers(exec, options.plan, options.host.message_bytes));
    }
    return comm::make_host_point_to_point(parts.group, exec.device(), options.host);
  }
  options.host.channels = channels_of(parts.shape, parts.group.rank());
  if (parts.factory != nullptr) {
    return parts.factory->make_point_to_point(exec, parts.group, options);
  }
  return comm::make_host_point_to_point(parts.group, exec.device(), options.host);
}

Executor::Executor(const Exec& exec, const ExecutorParts& parts)
    : Executor{exec, parts, parts.shape.stages > 1 ? make_links(exec, parts) : nullptr} {}

Executor::Executor(const Exec& exec, const ExecutorParts& parts,
                   std::unique_ptr<comm::PointToPoint> links)
    : shape_{parts.shape},
      verbs_{&parts.verbs},
      rank_{parts.group.rank()},
      border_{parts.verbs.border()},
      actions_{make_schedule(parts.shape, rank_)},
      slots_{assign_slots(actions_, parts.shape)},
      deltas_{assign_delta_slots(actions_, parts.shape)},
      gradients_{exec, border_, parts.shape, rank_},
      outputs_(pair_index(shape_.chunks, 0, shape_.micro_batches)),
      links_{std::move(links)} {
  expect(parts.group.size() == shape_.stages, "the pipeline group has one rank for each stage");
}

void Executor::run(const Exec& exec) {
  const double waited = links_ ? links_->seconds_waiting() : 0.0;
  const Stopwatch watch;
  for (std::size_t i = 0; i < actions_.size(); ++i) {
    if (links_) links_->reach(exec, static_cast<int>(i));
    execute(exec, actions_[i]);
  }
  if (links_) links_->flush(exec);
  seconds_ = watch.seconds();
  seconds_waiting_ = links_ ? links_->seconds_waiting() - waited : 0.0;
}

double Executor::idle_share() const {
  return seconds_ > 0.0 ? seconds_waiting_ / seconds_ : 0.0;
}

ChunkPlace Executor::neighbour(int chunk, int step) const {
  const int other = model_chunk(shape_, {rank_, chunk}) + step;
  if (other < 0 || other >= shape_.model_chunks()) return {.rank = -1};
  return place_of(shape_, other);
}

StageCall Executor::call_of(const Action& a) const {
  const int delta = deltas_.of(a.chunk, a.micro_batch);
  return {.chunk = a.chunk,
          .micro_batch = a.micro_batch,
          .slot = slots_.of(a.chunk, a.micro_batch),
          .delta_slot = delta < 0 ? -1 : slots_.count + delta};
}

TensorView Executor::border_in(const Store& store) const {
  return allocate(store, border_.shape, border_.dtype);
}

void Executor::execute(const Exec& exec, const Action& action) {
  const StageCall call = call_of(action);
  switch (action.verb) {
    case Verb::forward:
      return forward(exec, call);
    case Verb::backward_input:
      return backward(exec, call, true);
    case Verb::backward:
      backward(exec, call, false);
      break;
    case Verb::backward_weight:
      verbs_->backward_weight(exec, call);
      exec.arena().free_saved(call.delta_slot);
      break;
  }
  exec.arena().free_saved(call.slot);
}

TensorView Executor::input(const Exec& exec, const StageCall& call) {
  const ChunkPlace from = neighbour(call.chunk, -1);
  if (!exists(from)) return {};
  const TensorView x_TD = border_in(exec.arena().saved(call.slot));
  if (is_here(from)) {
    const ConstTensorView& made =
        outputs_[pair_index(from.chunk, call.micro_batch, shape_.micro_batches)];
    copy(exec, x_TD.bytes_begin(), made.bytes_begin(), x_TD.bytes());
  } else {
    links_->recv(exec, x_TD, from.rank, {Direction::activation, call.chunk, call.micro_batch});
  }
  return x_TD;
}

void Executor::forward(const Exec& exec, const StageCall& call) {
  const TensorView x_TD = input(exec, call);
  const ConstTensorView y_TD = verbs_->forward(exec, call, x_TD);
  const ChunkPlace to = neighbour(call.chunk, 1);
  if (!exists(to)) return;
  expect_shape(y_TD, border_.shape, "output of a pipeline chunk");
  expect_dtype(y_TD, border_.dtype, "output of a pipeline chunk");
  if (is_here(to)) {
    outputs_[pair_index(call.chunk, call.micro_batch, shape_.micro_batches)] = y_TD;
  } else {
    links_->send(exec, y_TD, to.rank, {Direction::activation, to.chunk, call.micro_batch});
  }
}

ConstTensorView Executor::gradient_in(const Exec& exec, const StageCall& call, bool split) {
  const ChunkPlace from = neighbour(call.chunk, 1);
  if (!exists(from)) return {};
  if (is_here(from) && !split) return gradients_.get(call.chunk, call.micro_batch);
  const TensorView dy_TD = border_in(split ? exec.arena().saved(call.delta_slot) : exec.scratch());
  if (is_here(from)) {
    const TensorView made = gradients_.get(call.chunk, call.micro_batch);
    copy(exec, dy_TD.bytes_begin(), made.bytes_begin(), dy_TD.bytes());
  } else {
    links_->recv(exec, dy_TD, from.rank, {Direction::gradient, call.chunk, call.micro_batch});
  }
  return dy_TD;
}

TensorView Executor::gradient_out(const Exec& exec, const StageCall& call) {
  const ChunkPlace to = neighbour(call.chunk, -1);
  if (!exists(to)) return {};
  return is_here(to) ? gradients_.put(to.chunk, call.micro_batch) : border_in(exec.scratch());
}

void Executor::backward(const Exec& exec, const StageCall& call, bool split) {
  const ScratchScope scope{exec};
  const nn::StageGradients gradients{.dx_TD = gradient_out(exec, call),
                                     .dy_TD = gradient_in(exec, call, split)};
  if (split) {
    verbs_->backward_input(exec, call, gradients);
  } else {
    verbs_->backward(exec, call, gradients);
  }
  const ChunkPlace from = neighbour(call.chunk, 1), to = neighbour(call.chunk, -1);
  if (exists(from) && is_here(from)) gradients_.release(call.chunk, call.micro_batch);
  if (exists(to) && !is_here(to)) {
    links_->send(exec, gradients.dx_TD, to.rank, {Direction::gradient, to.chunk, call.micro_batch});
  }
}

}  // namespace shoal::pipeline
