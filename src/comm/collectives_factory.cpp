#include "shoal/comm/collectives_factory.hpp"

#include <algorithm>
#include <utility>

#include "comm/nccl/event_queue.hpp"
#include "comm/nccl_collectives.hpp"
#include "comm/nccl_point_to_point.hpp"
#include "comm/nccl_session.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/call_log.hpp"

namespace shoal::comm {
namespace {

[[nodiscard]] TransportDecision decide(const Communicator& world, DeviceKind device,
                                       TransportChoice choice) {
  if (world.is_on_paper()) return {TransportKind::mpi, "ranks on paper"};
  const auto places = gather_places(world, device);
  return choose_transport(choice, {.device = device, .places = places});
}

}  // namespace

CollectivesFactory::CollectivesFactory(const Communicator& world, DeviceKind device,
                                       const CollectivesOptions& options)
    : world_{&world},
      device_{device},
      options_{options},
      decision_{decide(world, device, options.choice)} {
  if constexpr (kHasNccl) {
    if (decision_.kind == TransportKind::nccl) nccl_ = start_nccl(world, options.timeout_s);
  }
}
CollectivesFactory::CollectivesFactory(CollectivesFactory&&) noexcept = default;
CollectivesFactory& CollectivesFactory::operator=(CollectivesFactory&&) noexcept = default;
CollectivesFactory::~CollectivesFactory() = default;

std::unique_ptr<TensorCollectives> CollectivesFactory::make(const Communicator& group) const {
  if (group.is_on_paper()) return make_host_collectives(group, device_, options_.host);
  check_same_name(group);
  std::unique_ptr<TensorCollectives> made;
  const bool joins = group.size() > 1 || options_.force_groups_of_one;
  if (auto comm = split(group, joins, group.group_name())) {
    made = make_nccl_collectives(group, std::move(comm), nccl_);
  }
  if (made == nullptr) made = make_host_collectives(group, device_, options_.host);
  if (options_.calls == nullptr) return made;
  return make_recording_collectives(std::move(made),
                                    {group.group_name(), group.all_gather_value(world_->rank())},
                                    options_.calls);
}

/// Null without NCCL, and where this rank does not join. Collective over the world.
std::unique_ptr<NcclComm> CollectivesFactory::split(const Communicator& group, bool joins,
                                                    const std::string& name) const {
  if (nccl_ == nullptr) return nullptr;
  const int first = group.all_gather_value(world_->rank()).front();
  const std::optional<int> color = joins ? std::optional{first} : std::nullopt;
  return nccl_->split({.color = color, .key = group.rank(), .name = name});
}

std::unique_ptr<PointToPoint> CollectivesFactory::make_point_to_point(
    const Exec& exec, const Communicator& group, const PointToPointOptions& options) const {
  check_same_name(group);
  if constexpr (kHasNccl) {
    if (auto comm = split(group, group.size() > 1, group.group_name() + " messages")) {
      return std::make_unique<NcclPointToPoint>(NcclPointToPoint::Parts{
          .name = group.group_name(),
          .journal_group = group.journal_group(),
          .comm = std::move(comm),
          .queue = make_event_queue(NcclPointToPoint::points_of(options.plan)),
          .session = nccl_,
          .plan = options.plan,
          .buffers = reserve_buffers(exec, options.plan, options.host.message_bytes)});
    }
  }
  return make_host_point_to_point(group, device_, options.host);
}

void CollectivesFactory::check_same_name(const Communicator& group) const {
  const auto names = world_->all_gather_strings(group.group_name());
  const auto other = std::find_if(names.begin(), names.end(),
                                  [&](const std::string& n) { return n != group.group_name(); });
  if (other == names.end()) return;
  fail("comm", "collectives are made for \"" + group.group_name() + "\" on rank " +
                   std::to_string(world_->rank()) + " and for \"" + *other + "\" on rank " +
                   std::to_string(other - names.begin()));
}

std::string CollectivesFactory::describe() const {
  if (nccl_ != nullptr) return nccl_->describe() + ": " + decision_.reason;
  const bool staged = device_ == DeviceKind::cuda;
  return std::string{staged ? "MPI through page-locked memory" : "MPI"} + ": " + decision_.reason;
}

void CollectivesFactory::note_launch(const Exec& exec) const {
  if (nccl_ == nullptr) return;
  const auto entry =
      nccl_->journal().begin(Operation::launch, world_->group_name(), 0, world_->journal_group());
  nccl_->end_with_stream(entry, exec.cuda().stream);
}

void CollectivesFactory::abort() const noexcept {
  if (nccl_ != nullptr) nccl_->abort();
}

std::function<void()> CollectivesFactory::abort_hook() const {
  return [session = std::weak_ptr{nccl_}] {
    if (const auto alive = session.lock()) alive->abort();
  };
}

}  // namespace shoal::comm
