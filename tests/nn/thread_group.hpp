#pragma once
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

#include "harness.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::nn::test {

/// What the ranks of a group show each other.
struct Board {
  explicit Board(int ranks) : sync{ranks}, views(static_cast<std::size_t>(ranks)) {}
  std::barrier<> sync;
  std::vector<ConstTensorView> views;
};

/// A tensor parallel group whose ranks are threads, on CPU tensors. Sums run in rank order.
class ThreadGroup final : public ShardGroup {
 public:
  ThreadGroup(Board& board, int rank) : board_{&board}, rank_{rank} {}
  [[nodiscard]] int size() const override { return static_cast<int>(board_->views.size()); }
  [[nodiscard]] int rank() const override { return rank_; }
  void all_gather(const Exec&, const TensorView& whole, const ConstTensorView& part) override {
    meet(part, [&] {
      for (int r = 0; r < size(); ++r) {
        std::memcpy(whole.rows(r * part.dim(0), part.dim(0)).bytes_begin(), view(r).bytes_begin(),
                    static_cast<std::size_t>(part.bytes()));
      }
    });
  }
  void reduce_scatter(const Exec& exec, const TensorView& part,
                      const ConstTensorView& whole) override {
    meet(whole, [&] {
      const std::int64_t n = part.dim(0);
      const auto of = [&](int r) { return view(r).rows(rank_ * n, n); };
      ops::add(exec, part, of(0), of(1));
      for (int r = 2; r < size(); ++r) ops::add(exec, part, part, of(r));
    });
  }
  void all_reduce(const Exec&, const TensorView&) override { FAIL() << "not used here"; }

 private:
  [[nodiscard]] const ConstTensorView& view(int rank) const {
    return board_->views[static_cast<std::size_t>(rank)];
  }
  template <class Body>
  void meet(const ConstTensorView& mine, const Body& body) {
    board_->views[static_cast<std::size_t>(rank_)] = mine;
    board_->sync.arrive_and_wait();
    body();
    board_->sync.arrive_and_wait();
  }
  Board* board_;
  int rank_;
};

/// Calls body(rank, group) on `ranks` threads.
template <class Body>
void on_ranks(int ranks, const Body& body) {
  Board board{ranks};
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      ThreadGroup group{board, r};
      body(r, group);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace shoal::nn::test
