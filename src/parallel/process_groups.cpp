#include "shoal/parallel/process_groups.hpp"

#include <string>

namespace shoal::parallel {
namespace {

Communicator split_along(const Communicator& world, const RankGrid& grid, const char* axis) {
  return world.split({.color = grid.color(world.rank(), axis), .key = world.rank(), .name = axis});
}

}  // namespace

ProcessGroups::ProcessGroups(const Communicator& world, const ParallelConfig& config)
    : world_{&world},
      layout_{make_layout(config, world.size())},
      dp_{split_along(world, layout_.dense, "dp")},
      edp_{split_along(world, layout_.expert, "edp")} {}

}  // namespace shoal::parallel
