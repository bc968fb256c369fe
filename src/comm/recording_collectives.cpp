#include <utility>

#include "shoal/comm/call_log.hpp"

namespace shoal::comm {
namespace {

/// Enters each call into the log, then makes it.
class RecordingCollectives final : public TensorCollectives {
 public:
  RecordingCollectives(std::unique_ptr<TensorCollectives> inner, RecordedGroup group,
                       std::shared_ptr<CallLog> log)
      : inner_{std::move(inner)},
        log_{std::move(log)},
        group_{log_->open_group(std::move(group))} {}
  [[nodiscard]] int rank() const override { return inner_->rank(); }
  [[nodiscard]] int size() const override { return inner_->size(); }
  [[nodiscard]] bool capturable() const override { return inner_->capturable(); }
  [[nodiscard]] bool only_copies() const override { return inner_->only_copies(); }
  [[nodiscard]] bool can_post() const override { return inner_->can_post(); }

 private:
  void note(const TensorView& data, ReduceOp op) {
    log_->add({.group = group_,
               .op = Operation::all_reduce,
               .bytes = data.bytes(),
               .type = element_type_of(data.dtype()),
               .reduce = op});
  }
  void note(const ReduceScatter& a) {
    log_->add({.group = group_,
               .op = Operation::reduce_scatter,
               .bytes = a.send.bytes(),
               .type = element_type_of(a.recv.dtype()),
               .reduce = a.op});
  }
  void note(const AllGather& a) {
    log_->add({.group = group_, .op = Operation::all_gather, .bytes = a.send.bytes()});
  }

  void run_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op) override {
    note(data, op);
    inner_->all_reduce(exec, data, op);
  }
  void run_reduce_scatter(const Exec& exec, const ReduceScatter& a) override {
    note(a);
    inner_->reduce_scatter(exec, a);
  }
  void run_all_gather(const Exec& exec, const AllGather& a) override {
    note(a);
    inner_->all_gather(exec, a);
  }
  Posted run_post_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op,
                             const TensorView& workspace) override {
    note(data, op);
    return inner_->post_all_reduce(exec, data, op, workspace);
  }
  Posted run_post_reduce_scatter(const Exec& exec, const ReduceScatter& a,
                                 const TensorView& workspace) override {
    note(a);
    return inner_->post_reduce_scatter(exec, a, workspace);
  }
  Posted run_post_all_gather(const Exec& exec, const AllGather& a) override {
    note(a);
    return inner_->post_all_gather(exec, a);
  }
  void run_broadcast(const Exec& exec, const TensorView& data, int root) override {
    log_->add({.group = group_, .op = Operation::broadcast, .bytes = data.bytes(), .peer = root});
    inner_->broadcast(exec, data, root);
  }
  void run_all_to_all_rows(const Exec& exec, const AllToAllRows& a) override {
    std::int64_t row = shoal::size_of(a.send.dtype());
    for (int i = 1; i < a.send.shape().rank(); ++i) row *= a.send.dim(i);
    log_->add({.group = group_,
               .op = Operation::all_to_all_v,
               .bytes = row,
               .send_rows = {a.send_rows.begin(), a.send_rows.end()},
               .recv_rows = {a.recv_rows.begin(), a.recv_rows.end()}});
    inner_->all_to_all_rows(exec, a);
  }

  std::unique_ptr<TensorCollectives> inner_;
  std::shared_ptr<CallLog> log_;
  int group_;
};

}  // namespace

std::unique_ptr<TensorCollectives> make_recording_collectives(
    std::unique_ptr<TensorCollectives> inner, RecordedGroup group, std::shared_ptr<CallLog> log) {
  return std::make_unique<RecordingCollectives>(std::move(inner), std::move(group), std::move(log));
}

}  // namespace shoal::comm
