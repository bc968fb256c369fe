#include <algorithm>

#include "comm/nccl/event_marks.hpp"
#include "comm/nccl/library_comm.hpp"
#include "comm/nccl_pinning.hpp"
#include "comm/nccl_session.hpp"

namespace shoal::comm {
namespace {

[[nodiscard]] std::string library_version() {
  int version = 0;
  check_nccl(ncclGetVersion(&version));
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

/// Ranks with different settings would wait for each other in different algorithms.
void require_same(const Communicator& world, const std::string& description) {
  const auto all = world.all_gather_strings(description);
  const auto other = std::find_if(all.begin(), all.end(),
                                  [&](const std::string& text) { return text != all.front(); });
  if (other == all.end()) return;
  throw InputError{"NCCL differs between ranks: rank 0 has " + all.front() + "; rank " +
                   std::to_string(other - all.begin()) + " has " + *other};
}

[[nodiscard]] ncclUniqueId share_id(const Communicator& world) {
  ncclUniqueId id{};
  if (world.is_root()) check_nccl(ncclGetUniqueId(&id));
  world.broadcast_bytes(std::as_writable_bytes(std::span{&id, 1}), 0);
  return id;
}

}  // namespace

std::shared_ptr<NcclSession> start_nccl(const Communicator& world, double timeout_s) {
  const NcclPinning pinning = pin_nccl();
  const std::string description = "NCCL " + library_version() + ", " + describe(pinning);
  require_same(world, description);
  auto comm = std::make_unique<LibraryComm>(LibraryComm::Start{
      .id = share_id(world), .rank = world.rank(), .size = world.size(), .timeout_s = timeout_s});
  return std::make_shared<NcclSession>(NcclSession::Parts{.world = std::move(comm),
                                                          .marks = make_event_marks(),
                                                          .journal = world.journal(),
                                                          .description = description});
}

}  // namespace shoal::comm
