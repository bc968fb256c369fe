#include "train/host_place.hpp"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>

#include "shoal/base/error.hpp"
#include "shoal/comm/environment.hpp"
#include "train/text.hpp"

namespace shoal::train {
namespace {

/// Launchers and schedulers bind processes to cores; this is what they left us.
std::string usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return "1";
  std::string cores(CPU_SETSIZE, '0');
  for (std::size_t i = 0; i < cores.size(); ++i) {
    if (CPU_ISSET(i, &set)) cores[i] = '1';
  }
  return cores.substr(0, cores.rfind('1') + 1);
}

}  // namespace

std::int64_t fair_threads(const std::vector<std::string>& cores, std::size_t mine) {
  std::string any;
  for (const std::string& text : cores) {
    any.resize(std::max(any.size(), text.size()), '0');
    for (std::size_t i = 0; i < text.size(); ++i) any[i] = std::max(any[i], text[i]);
  }
  const auto all = std::count(any.begin(), any.end(), '1');
  const auto own = std::count(cores[mine].begin(), cores[mine].end(), '1');
  const auto share = all / static_cast<std::int64_t>(cores.size());
  return std::max<std::int64_t>(1, std::min<std::int64_t>(own, share));
}

HostPlace find_place(const Communicator& world) {
  const auto hosts = world.all_gather_strings(comm::Environment::host_name());
  const auto cores = world.all_gather_strings(usable_cores());
  const auto rank = static_cast<std::size_t>(world.rank());
  HostPlace place;
  std::vector<std::string> here;
  for (std::size_t r = 0; r < hosts.size(); ++r) {
    if (hosts[r] != hosts[rank]) continue;
    if (r < rank) ++place.index;
    here.push_back(cores[r]);
  }
  place.threads = fair_threads(here, static_cast<std::size_t>(place.index));
  return place;
}

std::int64_t take_place(const TrainingConfig& config, const Communicator& world) {
  const HostPlace place = find_place(world);
  std::int64_t threads = config.threads;
  if (threads == 0 && std::getenv("OMP_NUM_THREADS") == nullptr) threads = place.threads;
  if (threads > 0) omp_set_num_threads(static_cast<int>(threads));
  if (choose_device(config.device) == DeviceKind::cuda) {
    select_cuda_device(place.index % cuda_device_count());
  }
  return omp_get_max_threads();
}

void require_device_memory(DeviceKind device, const ArenaPlan& memory) {
  if (device == DeviceKind::cpu) return;
  const DeviceInfo info = device_info(device);
  require(memory.total() <= info.free_bytes,
          "the step needs " + bytes_text(memory.total()) + " on each GPU, " + info.name + " has " +
              bytes_text(info.free_bytes) +
              " free: lower training.micro_batch_size, or set compute.recompute_mlp = full");
}

}  // namespace shoal::train
