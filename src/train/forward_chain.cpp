#include "shoal/train/forward_chain.hpp"

#include <set>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/pipeline/message_plan.hpp"

namespace shoal::train {
namespace {

/// To every rank that holds the chunk after one of ours.
std::vector<comm::HostPointToPointOptions::Channel> channels(const pipeline::ScheduleShape& shape,
                                                             int rank) {
  std::set<int> targets;
  for (int c = 0; c + 1 < shape.model_chunks(); ++c) {
    const int to = pipeline::place_of(shape, c + 1).rank;
    if (pipeline::place_of(shape, c).rank == rank && to != rank) targets.insert(to);
  }
  std::vector<comm::HostPointToPointOptions::Channel> out;
  out.reserve(targets.size());
  for (const int to : targets) out.push_back({.to = to, .direction = comm::Direction::activation});
  return out;
}

}  // namespace

ForwardChain::ForwardChain(const nn::Model& model) : chunks_{&model} {}

ForwardChain::ForwardChain(const Exec& exec, const Parts& parts)
    : chunks_{parts.chunks}, shape_{parts.shape}, rank_{parts.group.rank()}, tokens_{parts.tokens} {
  if (parts.group.size() == 1) return;
  const std::int64_t message =
      tokens_ * config().hidden_size * size_of(chunks_.front()->elem_dtype());
  comm::PointToPointOptions options;
  options.host.message_bytes = message;
  options.host.channels = channels(shape_, rank_);
  options.plan = pipeline::forward_message_plan(shape_, rank_);
  if (!exec.is_dry()) {
    expect(parts.factory != nullptr, "a chain of several ranks needs their transports");
    links_ = parts.factory->make_point_to_point(exec, parts.group, options);
  } else if (parts.plans_device_messages) {
    static_cast<void>(comm::reserve_buffers(exec, options.plan, message));
  }
}
ForwardChain::~ForwardChain() = default;

pipeline::ChunkPlace ForwardChain::place(int model_chunk) const {
  return pipeline::place_of(shape_, model_chunk);
}

TensorView ForwardChain::border(const Exec& exec) const {
  return scratch(exec, {tokens_, config().hidden_size}, chunks_.front()->elem_dtype());
}

void ForwardChain::add_loss(const Exec& exec, const nn::Batch& batch,
                            const TensorView& loss_sum) const {
  const ScratchScope scope{exec};
  const int last = shape_.model_chunks() - 1;
  TensorView x_TD;
  for (int c = 0; c <= last; ++c) {
    const pipeline::ChunkPlace here = place(c);
    if (here.rank != rank_) continue;
    const auto tag_of = [](int chunk) {
      return comm::MessageTag{.direction = comm::Direction::activation, .chunk = chunk};
    };
    if (c > 0 && place(c - 1).rank != rank_) {
      x_TD = border(exec);
      if (links_) links_->recv(exec, x_TD, place(c - 1).rank, tag_of(here.chunk));
    }
    const TensorView y_TD = c == last ? TensorView{} : border(exec);
    chunks_[static_cast<std::size_t>(here.chunk)]->evaluate(
        exec, batch, {.x_TD = x_TD, .y_TD = y_TD, .loss_sum = loss_sum});
    x_TD = y_TD;
    if (c == last || place(c + 1).rank == rank_ || !links_) continue;
    links_->send(exec, y_TD, place(c + 1).rank, tag_of(place(c + 1).chunk));
  }
}

}  // namespace shoal::train
