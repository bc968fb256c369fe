#include "shoal/parallel/process_groups.hpp"

#include <string>

#include "shoal/base/error.hpp"
#include "shoal/nn/parameter.hpp"

namespace shoal::parallel {
namespace {

Communicator split_along(const Communicator& world, const RankGrid& grid, const char* axis) {
  return world.split({.color = grid.color(world.rank(), axis), .key = world.rank(), .name = axis});
}

Communicator split_stage(const Communicator& world, const RankGrid& grid) {
  return world.split(
      {.color = grid.coord(world.rank(), "pp"), .key = world.rank(), .name = "stage"});
}

/// Ranks of the first and the last stage meet their counterpart, others themselves.
Communicator split_tied(const Communicator& world, const RankGrid& grid) {
  const int stage = grid.coord(world.rank(), "pp"), stages = grid.size("pp");
  const bool end = stage == 0 || stage == stages - 1;
  const int color = end ? grid.color(world.rank(), "pp") : world.size() + world.rank();
  return world.split({.color = color, .key = world.rank(), .name = "tied"});
}

}  // namespace

ProcessGroups::ProcessGroups(const Communicator& world, const ParallelConfig& config)
    : world_{&world},
      layout_{make_layout(config, world.size())},
      dp_{split_along(world, layout_.dense, "dp")},
      tp_{split_along(world, layout_.dense, "tp")},
      pp_{split_along(world, layout_.dense, "pp")},
      ep_{split_along(world, layout_.expert, "ep")},
      edp_{split_along(world, layout_.expert, "edp")},
      stage_{split_stage(world, layout_.dense)},
      tied_{split_tied(world, layout_.dense)} {}

const Communicator& ProcessGroups::replicas(unsigned axes) const {
  const unsigned rest = axes & ~(static_cast<unsigned>(nn::kPp) | nn::kCp);
  if (rest == nn::kEdp) return edp_;
  if (rest == nn::kDp) return dp_;
  expect(rest == (nn::kDp | nn::kTp), "no group for these replica axes");
  return stage_;
}

}  // namespace shoal::parallel
