#include "shoal/train/calibrate.hpp"

#include <algorithm>
#include <set>

#include "shoal/comm/environment.hpp"
#include "shoal/train/train_config.hpp"
#include "train/calibrate_compute.hpp"
#include "train/calibrate_links.hpp"
#include "train/calibrate_step.hpp"

namespace shoal::train {
namespace {

/// This rank's host and its place there.
struct Host {
  int index = 0, local = 0, hosts = 1;
};

Host find_host(const Communicator& world) {
  const auto names = world.all_gather_strings(comm::Environment::host_name());
  const std::set<std::string> distinct{names.begin(), names.end()};
  const std::string& mine = names[static_cast<std::size_t>(world.rank())];
  return {.index = static_cast<int>(std::distance(distinct.begin(), distinct.find(mine))),
          .local = static_cast<int>(std::count(names.begin(), names.begin() + world.rank(), mine)),
          .hosts = static_cast<int>(distinct.size())};
}

}  // namespace

Calibration calibrate(const CalibrateOptions& options, const Communicator& world) {
  const DeviceInfo info = device_info(options.device);
  const Exec exec{options.device, calibration_memory(options.device)};
  const Host host = find_host(world);
  Calibration c = published_calibration(80.0, options.precision);  // where nothing is measured
  c.device = info.name;
  c.host = world.broadcast_string(comm::Environment::host_name(), 0);
  c.ranks = world.size();
  c.hosts = host.hosts;
  c.compute = measure_rates(exec, parse_precision(options.precision), world);
  c.whole_pass_factor = whole_pass_factor(c, options.device, world);
  c.compute = slowed(c.compute, c.whole_pass_factor);
  c.overlap = options.device == DeviceKind::cuda ? c.overlap : 0.0;  // MPI on the CPU waits
  const Communicator inside =
      world.split({.color = host.index, .key = world.rank(), .name = "node"});
  const Communicator across =
      world.split({.color = host.local, .key = world.rank(), .name = "across"});
  const auto every_rank = [&world](bool here) {
    return world.all_reduce_value(here ? 1 : 0, comm::ReduceOp::min) == 1;
  };
  if (every_rank(inside.size() > 1)) {
    c.intra_node = measure_links(exec, inside, world);
    c.intra_measured = true;
  }
  if (every_rank(across.size() > 1)) {
    c.inter_node = measure_links(exec, across, world);
    c.inter_measured = true;
  }
  c.source = "measured by `shoal bench --calibrate` on " + c.device + ", " +
             std::to_string(c.ranks) + " ranks, " + std::to_string(c.hosts) + " hosts, " +
             c.precision;
  if (!c.intra_measured) c.source += "; links inside a node: published H100 figures";
  if (!c.inter_measured) c.source += "; links between nodes: published figures (400 Gb/s)";
  return c;
}

}  // namespace shoal::train
