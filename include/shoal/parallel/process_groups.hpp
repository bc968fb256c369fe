#pragma once
#include <memory>

#include "shoal/comm/communicator.hpp"
#include "shoal/parallel/parallel_config.hpp"

namespace shoal::parallel {

/// Every group of ranks that a run needs, built once and passed down. Collective over `world`.
/// Ranks of a group are ordered by world rank.
class ProcessGroups {
 public:
  ProcessGroups(const Communicator& world, const ParallelConfig& config);
  /// The groups of one rank of a layout on paper, to plan it on a dry Exec.
  [[nodiscard]] static ProcessGroups on_paper(const ParallelConfig& config, int ranks, int rank);

  [[nodiscard]] const Layout& layout() const { return layout_; }
  [[nodiscard]] const Communicator& world() const { return *world_; }
  [[nodiscard]] const Communicator& dp() const { return dp_; }    ///< other data, same weights
  [[nodiscard]] const Communicator& tp() const { return tp_; }    ///< share each layer
  [[nodiscard]] const Communicator& pp() const { return pp_; }    ///< stages, in order
  [[nodiscard]] const Communicator& ep() const { return ep_; }    ///< share the experts
  [[nodiscard]] const Communicator& edp() const { return edp_; }  ///< hold the same experts
  /// All ranks of this stage: dp x tp, replicas of norms and routers.
  [[nodiscard]] const Communicator& stage() const { return stage_; }
  /// First and last stage, where a tied embedding lives; a group of one elsewhere.
  [[nodiscard]] const Communicator& tied() const { return tied_; }
  /// Ranks that hold the same part of a parameter with these nn::ReplicaAxes, kPp aside.
  [[nodiscard]] const Communicator& replicas(unsigned axes) const;
  [[nodiscard]] int dp_rank() const { return dp_.rank(); }
  [[nodiscard]] int dp_size() const { return dp_.size(); }

 private:
  ProcessGroups(std::unique_ptr<Communicator> paper_world, Layout layout);

  std::unique_ptr<Communicator> paper_world_;  ///< of a plan; otherwise the world is the caller's
  const Communicator* world_;
  Layout layout_;
  Communicator dp_, tp_, pp_, ep_, edp_, stage_, tied_;
};

}  // namespace shoal::parallel
