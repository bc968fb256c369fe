#include "shoal/parallel/process_groups.hpp"

#include <string>
#include <utility>

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

Communicator paper_along(int rank, const RankGrid& grid, const char* axis) {
  return Communicator::on_paper(grid.coord(rank, axis), grid.size(axis), axis);
}

Communicator paper_stage(int rank, const RankGrid& grid) {
  const int size = grid.size() / grid.size("pp");
  return Communicator::on_paper(rank % size, size, "stage");
}

Communicator paper_tied(int rank, const RankGrid& grid) {
  const int stage = grid.coord(rank, "pp"), stages = grid.size("pp");
  const bool pair = stages > 1 && (stage == 0 || stage == stages - 1);
  return Communicator::on_paper(pair && stage > 0 ? 1 : 0, pair ? 2 : 1, "tied");
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

ProcessGroups::ProcessGroups(std::unique_ptr<Communicator> paper_world, Layout layout)
    : paper_world_{std::move(paper_world)},
      world_{paper_world_.get()},
      layout_{std::move(layout)},
      dp_{paper_along(world_->rank(), layout_.dense, "dp")},
      tp_{paper_along(world_->rank(), layout_.dense, "tp")},
      pp_{paper_along(world_->rank(), layout_.dense, "pp")},
      ep_{paper_along(world_->rank(), layout_.expert, "ep")},
      edp_{paper_along(world_->rank(), layout_.expert, "edp")},
      stage_{paper_stage(world_->rank(), layout_.dense)},
      tied_{paper_tied(world_->rank(), layout_.dense)} {}

ProcessGroups ProcessGroups::on_paper(const ParallelConfig& config, int ranks, int rank) {
  return ProcessGroups{std::make_unique<Communicator>(Communicator::on_paper(rank, ranks, "world")),
                       make_layout(config, ranks)};
}

const Communicator& ProcessGroups::replicas(unsigned axes) const {
  const unsigned rest = axes & ~(static_cast<unsigned>(nn::kPp) | nn::kCp);
  if (rest == nn::kEdp) return edp_;
  if (rest == nn::kDp) return dp_;
  expect(rest == (nn::kDp | nn::kTp), "no group for these replica axes");
  return stage_;
}

}  // namespace shoal::parallel
