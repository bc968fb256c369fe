#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/parallel/gradient_buckets.hpp"

namespace shoal::parallel {

/// Moves buckets between the flat buffers of a rank and the other ranks of their groups: packs one,
/// posts its collective and, when that has ended, unpacks it. Transfers end in the order in which
/// they were begun. With `overlap`, and where the transport can, kSlots of them are under way while
/// the host works; otherwise each is over, in the order of the Exec's stream, when it was begun.
class BucketTransfer {
 public:
  static constexpr std::size_t kSlots = 2;  ///< one on the wire, one behind it

  /// What is pointed to must outlive it.
  struct Parts {
    const nn::ParameterStore* store = nullptr;
    const ShardPlan* plan = nullptr;
    const std::vector<Bucket>* buckets = nullptr;
    std::array<comm::TensorCollectives*, kReplicaGroups> groups{};
    DType wire = DType::f32;
    bool overlap = false;
  };
  /// Takes persistent memory for tables and slots.
  BucketTransfer(const Exec& exec, const Parts& parts);

  /// Sums the gradients of a bucket over its group. Waits for the oldest transfer where all slots
  /// are taken.
  void reduce(const Exec& exec, std::size_t bucket) { begin(exec, bucket, Kind::reduce); }
  /// Brings the weights of a bucket, whose rows are dealt to the group, to all of the group.
  void gather(const Exec& exec, std::size_t bucket) { begin(exec, bucket, Kind::gather); }
  /// Ends what has arrived; never waits.
  void progress(const Exec& exec);
  /// Waits until `count` transfers have ended since restart().
  void end(const Exec& exec, std::size_t count);
  void end_all(const Exec& exec) { end(exec, begun_); }

  /// Counts anew; nothing may be under way.
  void restart();
  [[nodiscard]] std::size_t ended() const { return ended_; }
  [[nodiscard]] bool full() const { return begun_ - ended_ == slots_.size(); }

 private:
  enum class Kind { reduce, gather };
  /// Runs of a bucket: of all its blocks, and of this rank's own.
  struct Tables {
    TensorView all, own;
    bool padded = false;
  };
  struct Slot {
    TensorView all, own, arrivals;  ///< u8: packed blocks of the group and of this rank; workspace
    std::size_t bucket = 0;
    Kind kind = Kind::reduce;
    comm::TensorCollectives::Posted posted;
  };
  [[nodiscard]] Tables make_tables(const Exec& exec, const Bucket& bucket) const;
  [[nodiscard]] Slot make_slot(const Exec& exec) const;
  void begin(const Exec& exec, std::size_t bucket, Kind kind);
  void end_oldest(const Exec& exec);
  [[nodiscard]] comm::TensorCollectives::Posted post_reduce(const Exec& exec, const Slot& slot);
  [[nodiscard]] comm::TensorCollectives::Posted post_gather(const Exec& exec, const Slot& slot);
  void unpack(const Exec& exec, const Slot& slot) const;
  [[nodiscard]] Slot& slot(std::size_t transfer) { return slots_[transfer % slots_.size()]; }
  [[nodiscard]] const Bucket& bucket_of(const Slot& slot) const {
    return (*parts_.buckets)[slot.bucket];
  }
  [[nodiscard]] comm::TensorCollectives& group_of(const Slot& slot) const {
    return *parts_.groups[static_cast<std::size_t>(bucket_of(slot).group)];
  }
  [[nodiscard]] TensorView gradients(bool keep_f32) const;
  [[nodiscard]] TensorView weights(bool keep_f32) const;

  Parts parts_;
  std::vector<Tables> tables_;
  std::vector<Slot> slots_;
  std::size_t begun_ = 0, ended_ = 0;
};

}  // namespace shoal::parallel
