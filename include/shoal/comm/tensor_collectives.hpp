#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "shoal/comm/communicator.hpp"
#include "shoal/device/exec.hpp"
#include "shoal/tensor/view.hpp"

namespace shoal::comm {

/// Equal blocks, one a rank: send [n * size()] of one dtype, recv [n] = the reduction of block
/// rank() over all ranks.
struct ReduceScatter {
  ConstTensorView send;
  TensorView recv;
  ReduceOp op = ReduceOp::sum;
};
/// send [n], recv [n * size()] in rank order.
struct AllGather {
  ConstTensorView send;
  TensorView recv;
};

/// Blocks of rows (the leading dimension) back to back in rank order, of any size: block r of
/// `send` goes to rank r, block r of `recv` comes from it. Row counts are known on the host.
struct AllToAllRows {
  ConstTensorView send;                     ///< [sum of send_rows, ...]
  std::span<const std::int64_t> send_rows;  ///< one a rank
  TensorView recv;                          ///< [sum of recv_rows, ...]
  std::span<const std::int64_t> recv_rows;  ///< one a rank
  /// Rows of the largest block between any two different ranks, where every rank knows it; -1: a
  /// transport that needs it finds out by one small all-reduce.
  std::int64_t largest_block = -1;
  /// Independent work, optional: called once on every rank while the rows are under way. On a GPU
  /// it should only enqueue. It may use other groups, not this object.
  std::function<void()> overlap = {};
};

/// Collectives on tensors of an Exec's device, ordered with its stream. Contracts are checked, also
/// on a dry Exec, where nothing else happens. Equal sizes on all ranks. One object serves one Exec.
class TensorCollectives {
 public:
  virtual ~TensorCollectives() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// Whether the calls may be captured into a CUDA graph: no host takes part.
  [[nodiscard]] virtual bool capturable() const = 0;
  /// Whether the group of one is served by a copy, without the transport.
  [[nodiscard]] virtual bool only_copies() const { return size() == 1; }

  /// Whether the host can work while a posted collective is under way. Elsewhere posting one runs
  /// it, in the order of the Exec's stream.
  [[nodiscard]] virtual bool can_post() const { return false; }

  void all_reduce(const Exec& exec, const TensorView& data, ReduceOp op);
  void reduce_scatter(const Exec& exec, const ReduceScatter& args);
  void all_gather(const Exec& exec, const AllGather& args);
  void broadcast(const Exec& exec, const TensorView& data, int root);
  void all_to_all_rows(const Exec& exec, const AllToAllRows& args);

  // Started only; null when nothing is left to wait for. `workspace` (u8) holds
  // Communicator::posted_workspace() bytes of what is sent where can_post(), otherwise it is not
  // read. Order as for Communicator's.
  using Posted = std::unique_ptr<PostedCollective>;
  [[nodiscard]] Posted post_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op,
                                       const TensorView& workspace);
  [[nodiscard]] Posted post_reduce_scatter(const Exec& exec, const ReduceScatter& args,
                                           const TensorView& workspace);
  [[nodiscard]] Posted post_all_gather(const Exec& exec, const AllGather& args);

 private:
  virtual Posted run_post_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op,
                                     const TensorView& workspace);
  virtual Posted run_post_reduce_scatter(const Exec& exec, const ReduceScatter& args,
                                         const TensorView& workspace);
  virtual Posted run_post_all_gather(const Exec& exec, const AllGather& args);
  virtual void run_all_reduce(const Exec& exec, const TensorView& data, ReduceOp op) = 0;
  virtual void run_reduce_scatter(const Exec& exec, const ReduceScatter& args) = 0;
  virtual void run_all_gather(const Exec& exec, const AllGather& args) = 0;
  virtual void run_broadcast(const Exec& exec, const TensorView& data, int root) = 0;
  virtual void run_all_to_all_rows(const Exec& exec, const AllToAllRows& args) = 0;
};

struct HostCollectivesOptions {
  std::int64_t staging_bytes = std::int64_t{8} << 20;  ///< page-locked, device memory only
  bool always_stage = false;  ///< stage host memory too, to test the path without a GPU
};

/// Over a Communicator: host memory directly, device memory through a page-locked buffer in bounded
/// pieces. Each wait for the device is counted in the communicator's WaitLog by the operation's
/// name. Any number of ranks may share a device. `group` must outlive the result.
[[nodiscard]] std::unique_ptr<TensorCollectives> make_host_collectives(
    const Communicator& group, DeviceKind device, const HostCollectivesOptions& options = {});

/// Error for u16, which nothing reduces over ranks.
[[nodiscard]] ElementType element_type_of(DType dtype);

}  // namespace shoal::comm
