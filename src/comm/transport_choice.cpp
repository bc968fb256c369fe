#include "shoal/comm/transport_choice.hpp"

#include <map>
#include <utility>

#include "comm/gpu_place.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/environment.hpp"

namespace shoal::comm {
namespace {

/// Why NCCL cannot serve these ranks; empty when it can.
[[nodiscard]] std::string obstacle(const TransportFacts& facts) {
  if (facts.device != DeviceKind::cuda) return "the tensors are in host memory";
  if (!facts.has_nccl) return "this build has no NCCL";
  std::map<std::pair<std::string, std::string>, std::size_t> owner;
  for (std::size_t r = 0; r < facts.places.size(); ++r) {
    const RankPlace& place = facts.places[r];
    if (place.gpu.empty()) return "rank " + std::to_string(r) + " has no GPU";
    const auto [at, is_new] = owner.try_emplace({place.host, place.gpu}, r);
    if (is_new) continue;
    return "ranks " + std::to_string(at->second) + " and " + std::to_string(r) + " share GPU " +
           place.gpu + " of " + place.host;
  }
  return {};
}

}  // namespace

TransportChoice parse_transport_choice(std::string_view text) {
  if (text == "auto") return TransportChoice::automatic;
  if (text == "nccl") return TransportChoice::nccl;
  require(text == "mpi", "parallel.comm = " + std::string{text} + ": allowed: auto nccl mpi");
  return TransportChoice::mpi;
}

TransportDecision choose_transport(TransportChoice choice, const TransportFacts& facts) {
  if (choice == TransportChoice::mpi) return {TransportKind::mpi, "as asked for"};
  const std::string why_not = obstacle(facts);
  if (choice == TransportChoice::nccl) {
    require(why_not.empty(), "parallel.comm = nccl: " + why_not);
    return {TransportKind::nccl, "as asked for"};
  }
  if (!why_not.empty()) return {TransportKind::mpi, why_not};
  return {TransportKind::nccl, "every rank has a GPU of its own"};
}

std::vector<RankPlace> gather_places(const Communicator& world, DeviceKind device) {
  const auto hosts = world.all_gather_strings(Environment::host_name());
  const auto gpus = world.all_gather_strings(gpu_place(device));
  std::vector<RankPlace> places;
  for (std::size_t r = 0; r < hosts.size(); ++r) places.push_back({hosts[r], gpus[r]});
  return places;
}

}  // namespace shoal::comm
