#include "train/network_cost.hpp"

#include <algorithm>

namespace shoal::train {

double ring_gather_bytes(int size, double whole) {
  return whole * (size - 1) / size;
}

double ring_all_reduce_bytes(int size, double whole) {
  return 2.0 * ring_gather_bytes(size, whole);
}

int NetworkCost::members_per_node(GroupShape group) const {
  return std::clamp(per_node_ / group.stride, 1, group.size);
}

double NetworkCost::ring(GroupShape group, double sent_bytes, Link LinkSet::*kind,
                         int steps) const {
  if (group.size <= 1) return 0.0;
  const int members = members_per_node(group);
  const Link& inside = calibration_->intra_node.*kind;
  if (members == group.size) return steps * inside.latency_s + sent_bytes / inside.bytes_per_s;
  const Link& between = calibration_->inter_node.*kind;
  const double speed = members > 1 ? std::min(inside.bytes_per_s, members * between.bytes_per_s)
                                   : between.bytes_per_s;
  const int crossings = steps / members;
  return crossings * between.latency_s + (steps - crossings) * inside.latency_s +
         sent_bytes / speed;
}

double NetworkCost::all_gather(GroupShape group, double whole_bytes) const {
  return ring(group, ring_gather_bytes(group.size, whole_bytes), &LinkSet::all_gather,
              group.size - 1);
}

double NetworkCost::all_reduce(GroupShape group, double bytes) const {
  return ring(group, ring_all_reduce_bytes(group.size, bytes), &LinkSet::all_reduce,
              2 * (group.size - 1));
}

double NetworkCost::all_to_all(GroupShape group, double sent_bytes) const {
  if (group.size <= 1) return 0.0;
  const int members = members_per_node(group);
  const int peers = group.size - 1;
  const Link& inside = calibration_->intra_node.all_to_all;
  const Link& between = calibration_->inter_node.all_to_all;
  const int away = group.size - members;
  const double far_bytes = sent_bytes * away / peers;
  // Both kinds of link work at the same time.
  return std::max((members - 1) * inside.latency_s + (sent_bytes - far_bytes) / inside.bytes_per_s,
                  away * between.latency_s + far_bytes / between.bytes_per_s);
}

double NetworkCost::send(int distance, double bytes) const {
  const bool near = members_per_node({.size = 2, .stride = distance}) == 2;
  return (near ? calibration_->intra_node : calibration_->inter_node).send_recv.seconds(bytes);
}

}  // namespace shoal::train
