#include "shoal/comm/collectives_factory.hpp"

#include <algorithm>
#include <utility>

#include "comm/nccl_collectives.hpp"
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
  const std::vector<int> members = group.all_gather_value(world_->rank());
  std::unique_ptr<TensorCollectives> made;
  const bool joins = group.size() > 1 || options_.force_groups_of_one;
  if (nccl_ != nullptr) {
    const std::optional<int> color = joins ? std::optional{members.front()} : std::nullopt;
    auto comm = nccl_->split({.color = color, .key = group.rank(), .name = group.group_name()});
    if (comm != nullptr) made = make_nccl_collectives(group, std::move(comm), nccl_);
  }
  if (made == nullptr) made = make_host_collectives(group, device_, options_.host);
  if (options_.calls == nullptr) return made;
  return make_recording_collectives(std::move(made), {group.group_name(), members}, options_.calls);
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

void CollectivesFactory::abort() const noexcept {
  if (nccl_ != nullptr) nccl_->abort();
}

}  // namespace shoal::comm
