#pragma once
#include "shoal/comm/communicator.hpp"
#include "shoal/parallel/parallel_config.hpp"

namespace shoal::parallel {

/// Every group of ranks that a run needs, built once and passed down. Collective over `world`.
class ProcessGroups {
 public:
  ProcessGroups(const Communicator& world, const ParallelConfig& config);

  [[nodiscard]] const Layout& layout() const { return layout_; }
  [[nodiscard]] const Communicator& world() const { return *world_; }
  [[nodiscard]] const Communicator& dp() const { return dp_; }
  [[nodiscard]] const Communicator& edp() const { return edp_; }
  [[nodiscard]] int dp_rank() const { return dp_.rank(); }
  [[nodiscard]] int dp_size() const { return dp_.size(); }
  /// Writes the checkpoint slices of its replica group: the first of the data parallel ranks.
  [[nodiscard]] bool is_writer() const { return dp_.is_root(); }

 private:
  const Communicator* world_;
  Layout layout_;
  Communicator dp_;
  Communicator edp_;
};

}  // namespace shoal::parallel
