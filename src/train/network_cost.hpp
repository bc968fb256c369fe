#pragma once
#include "shoal/train/calibration.hpp"

namespace shoal::train {

/// Ranks r, r + stride, ..., r + (size - 1) * stride.
struct GroupShape {
  int size = 1;
  int stride = 1;
};

/// Bytes that one rank sends in ring algorithms; `whole` is the size of the gathered (or not yet
/// scattered) tensor.
[[nodiscard]] double ring_gather_bytes(int size, double whole);  ///< also of a reduce-scatter
[[nodiscard]] double ring_all_reduce_bytes(int size, double whole);

/// Seconds of collectives on nodes of `per_node` ranks each. Where a group spans nodes, its members
/// of one node drive a network card each, so that a ring crosses at their joint speed.
class NetworkCost {
 public:
  NetworkCost(const Calibration& calibration, int per_node)
      : calibration_{&calibration}, per_node_{per_node} {}

  [[nodiscard]] double all_gather(GroupShape group, double whole_bytes) const;
  [[nodiscard]] double reduce_scatter(GroupShape group, double whole_bytes) const {
    return all_gather(group, whole_bytes);
  }
  [[nodiscard]] double all_reduce(GroupShape group, double bytes) const;
  /// `sent_bytes` go from each rank to the others in equal parts.
  [[nodiscard]] double all_to_all(GroupShape group, double sent_bytes) const;
  /// From a rank to the one `distance` further.
  [[nodiscard]] double send(int distance, double bytes) const;
  /// Members of the group on one node.
  [[nodiscard]] int members_per_node(GroupShape group) const;

 private:
  [[nodiscard]] double ring(GroupShape group, double sent_bytes, Link LinkSet::*kind,
                            int steps) const;
  const Calibration* calibration_;
  int per_node_;
};

}  // namespace shoal::train
