#pragma once
#include "shoal/base/error.hpp"
#include "shoal/comm/tensor_collectives.hpp"

namespace shoal::comm {

/// Of a group on paper: a dry Exec never comes to the calls, and nothing is allocated.
class PaperCollectives final : public TensorCollectives {
 public:
  explicit PaperCollectives(const Communicator& group) : rank_{group.rank()}, size_{group.size()} {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] bool capturable() const override { return false; }

 private:
  [[noreturn]] static void nobody() { fail("comm", "a group on paper cannot communicate"); }
  void run_all_reduce(const Exec&, const TensorView&, ReduceOp) override { nobody(); }
  void run_reduce_scatter(const Exec&, const ReduceScatter&) override { nobody(); }
  void run_all_gather(const Exec&, const AllGather&) override { nobody(); }
  void run_broadcast(const Exec&, const TensorView&, int) override { nobody(); }
  void run_all_to_all_rows(const Exec&, const AllToAllRows&) override { nobody(); }

  int rank_, size_;
};

}  // namespace shoal::comm
