#pragma once
#include <span>
#include <string>
#include <string_view>

#include "shoal/comm/communicator.hpp"
#include "shoal/device/device.hpp"

namespace shoal::comm {

/// True in a build with CUDA and NCCL.
inline constexpr bool kHasNccl = SHOAL_HAS_NCCL != 0;

enum class TransportKind { mpi, nccl };
enum class TransportChoice { automatic, nccl, mpi };

/// "auto", "nccl" or "mpi"; InputError otherwise.
[[nodiscard]] TransportChoice parse_transport_choice(std::string_view text);

/// Where one rank computes.
struct RankPlace {
  std::string host;
  std::string gpu;  ///< PCI bus id of its current GPU, which NCCL goes by; empty without one
};
/// Every rank's place, in rank order; a rank with DeviceKind::cuda has selected its GPU before.
/// Collective.
[[nodiscard]] std::vector<RankPlace> gather_places(const Communicator& world, DeviceKind device);

struct TransportDecision {
  TransportKind kind = TransportKind::mpi;
  std::string reason;  ///< "every rank has a GPU of its own"
};
struct TransportFacts {
  DeviceKind device = DeviceKind::cpu;
  std::span<const RankPlace> places;
  bool has_nccl = kHasNccl;
};
/// NCCL where it is built in and every rank has a GPU of its own on its host, MPI otherwise. A
/// forced choice that cannot work is an InputError with the reason.
[[nodiscard]] TransportDecision choose_transport(TransportChoice choice,
                                                 const TransportFacts& facts);

}  // namespace shoal::comm
