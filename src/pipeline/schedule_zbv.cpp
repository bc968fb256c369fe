#include <algorithm>
#include <array>
#include <utility>

#include "pipeline/schedule_rules.hpp"

namespace shoal::pipeline {
namespace {

/// Writes actions, counting micro-batches of each verb and chunk. The rule is that of at least
/// 2p - 1 micro-batches; those that do not exist are left out, which keeps every dependency.
class Writer {
 public:
  explicit Writer(int micro_batches) : micro_batches_{micro_batches} {}

  void add(Verb verb, int chunk) {
    const int i = next(verb, chunk)++;
    if (i < micro_batches_) actions_.push_back({verb, chunk, i});
  }
  void backward(int chunk) {
    add(Verb::backward_input, chunk);
    add(Verb::backward_weight, chunk);
  }
  [[nodiscard]] int count(Verb verb, int chunk) { return next(verb, chunk); }
  [[nodiscard]] ActionList take() { return std::move(actions_); }

 private:
  [[nodiscard]] int& next(Verb verb, int chunk) {
    return counts_[static_cast<std::size_t>(verb)][static_cast<std::size_t>(chunk)];
  }
  int micro_batches_;
  std::array<std::array<int, 2>, 4> counts_{};
  ActionList actions_;
};

}  // namespace

/// The rule of ZB-V with chunk 0 on the way down the ranks and chunk 1 on the way back.
ActionList zbv_actions(const ScheduleShape& s, int rank) {
  const int p = s.stages, m = std::max(2 * p - 1, s.micro_batches);
  Writer w{s.micro_batches};
  for (int i = 0; i < 2 * (p - rank) - 1; ++i) w.add(Verb::forward, 0);
  for (int i = 0; i < rank; ++i) {
    w.add(Verb::forward, 1);
    w.add(Verb::forward, 0);
  }
  for (int i = 0; i < p - rank; ++i) {
    w.add(Verb::forward, 1);
    w.backward(1);
  }
  // Steady: each chunk makes one forward and one whole backward a round.
  while (w.count(Verb::forward, 1) < m) {
    if (w.count(Verb::forward, 0) < m) w.add(Verb::forward, 0);
    w.backward(0);
    w.add(Verb::forward, 1);
    w.backward(1);
  }
  // Drain: gradients first, so that no rank waits; the weights fill what is left.
  for (int i = 0; i < rank; ++i) {
    w.add(Verb::backward_input, 0);
    w.add(Verb::backward_input, 1);
  }
  for (int i = 0; i < p - rank; ++i) w.backward(0);
  for (const int chunk : {1, 0}) {
    while (w.count(Verb::backward_weight, chunk) < m) w.add(Verb::backward_weight, chunk);
  }
  return w.take();
}

}  // namespace shoal::pipeline
