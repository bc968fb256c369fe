#include "shoal/parallel/process_groups.hpp"

#include <string>

#include "shoal/base/error.hpp"
#include "shoal/nn/parameter.hpp"

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

const Communicator& ProcessGroups::replicas(unsigned axes) const {
  expect(
      (axes & (nn::kTp | nn::kPp)) == 0 || layout_.dense.size("tp") * layout_.dense.size("pp") == 1,
      "replicas along tp or pp are not reduced in this version");
  return (axes & nn::kEdp) != 0 ? edp_ : dp_;
}

}  // namespace shoal::parallel
