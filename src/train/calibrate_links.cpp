#include "train/calibrate_links.hpp"

#include <algorithm>
#include <array>

#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/tensor/tensor.hpp"
#include "train/measure_time.hpp"
#include "train/network_cost.hpp"

namespace shoal::train {
namespace {

constexpr std::array<std::int64_t, 4> kBytes = {1 << 12, 1 << 16, 1 << 19, 1 << 22};
constexpr double kUnlimited = 1e15;  ///< where no share of the time depends on the size

Link link_of(const std::vector<Sample>& samples) {
  const Fit fit = fit_times(samples);
  return {.latency_s = fit.first_s,
          .bytes_per_s = fit.second_s > 0.0 ? 1.0 / fit.second_s : kUnlimited};
}

/// The tensor collectives and plain messages of one group, at one size.
class LinkProbe {
 public:
  LinkProbe(const Exec& exec, const Communicator& group, const Communicator& world)
      : exec_{&exec},
        group_{&group},
        world_{&world},
        collectives_{comm::make_host_collectives(group, exec.device())},
        whole_{exec.device(), {kBytes.back() / 4}, DType::f32},
        part_{exec.device(), {kBytes.back() / 4}, DType::f32},
        send_(static_cast<std::size_t>(kBytes.back())),
        recv_(static_cast<std::size_t>(kBytes.back())) {
    zero(exec, whole_.view());
    zero(exec, part_.view());
  }

  [[nodiscard]] Sample all_reduce(std::int64_t bytes) const {
    const TensorView x = whole_.view().rows(0, bytes / 4);
    return {2.0 * (size() - 1), ring_all_reduce_bytes(size(), static_cast<double>(x.bytes())),
            time([&] { collectives_->all_reduce(*exec_, x, comm::ReduceOp::sum); })};
  }
  [[nodiscard]] Sample all_gather(std::int64_t bytes) const {
    const std::int64_t n = std::max<std::int64_t>(1, bytes / 4 / size());
    const TensorView whole = whole_.view().rows(0, n * size());
    const double seconds = time([&] {
      collectives_->all_gather(*exec_, {.send = part_.view().rows(0, n), .recv = whole});
    });
    return {size() - 1.0, ring_gather_bytes(size(), static_cast<double>(whole.bytes())), seconds};
  }
  [[nodiscard]] Sample all_to_all(std::int64_t bytes) {
    const auto n = static_cast<std::size_t>(bytes / size() * size());
    const double seconds = time(
        [&] { group_->all_to_all_bytes(std::span{send_}.first(n), std::span{recv_}.first(n)); });
    return {size() - 1.0, ring_gather_bytes(size(), static_cast<double>(n)), seconds};
  }
  [[nodiscard]] Sample send_recv(std::int64_t bytes) {
    const auto n = static_cast<std::size_t>(bytes);
    const int to = (group_->rank() + 1) % size();
    const int from = (group_->rank() + size() - 1) % size();
    const double seconds = time([&] {
      group_->send_recv_bytes({.send = std::span{send_}.first(n),
                               .to = to,
                               .recv = std::span{recv_}.first(n),
                               .from = from});
    });
    return {1.0, static_cast<double>(n), seconds};
  }

 private:
  [[nodiscard]] int size() const { return group_->size(); }
  [[nodiscard]] double time(const std::function<void()>& work) const {
    return time_of(*exec_, *world_, work);
  }

  const Exec* exec_;
  const Communicator* group_;
  const Communicator* world_;
  std::unique_ptr<comm::TensorCollectives> collectives_;
  Tensor whole_, part_;
  std::vector<std::byte> send_, recv_;
};

}  // namespace

LinkSet measure_links(const Exec& exec, const Communicator& group, const Communicator& world) {
  LinkProbe probe{exec, group, world};
  std::array<std::vector<Sample>, 4> samples;
  for (const std::int64_t bytes : kBytes) {
    samples[0].push_back(probe.all_reduce(bytes));
    samples[1].push_back(probe.all_gather(bytes));
    samples[2].push_back(probe.all_to_all(bytes));
    samples[3].push_back(probe.send_recv(bytes));
  }
  return {.all_reduce = link_of(samples[0]),
          .all_gather = link_of(samples[1]),
          .all_to_all = link_of(samples[2]),
          .send_recv = link_of(samples[3])};
}

}  // namespace shoal::train
