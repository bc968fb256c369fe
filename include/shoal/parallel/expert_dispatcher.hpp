#pragma once
#include <cstdint>

#include "shoal/comm/tensor_collectives.hpp"
#include "shoal/device/buffer.hpp"
#include "shoal/nn/token_dispatcher.hpp"
#include "shoal/parallel/exchange_volume.hpp"

namespace shoal::parallel {

/// Where the experts of a layer live and how tokens get there.
struct ExpertDispatcherParts {
  std::int64_t experts = 1;  ///< of the whole model, a multiple of the group's ranks
  /// Rows that a rank can take over its even share, tokens * slots; 0: the worst case.
  double buffer_factor = 0.0;
  /// As in nn::expert_capacity(), for the tokens of this rank: what it leaves out is not sent.
  double capacity_factor = 0.0;
  /// f32 [1]: raised to the factor that would have been enough where `buffer_factor` is not, on
  /// every rank of the group. The caller zeroes it before a step, reduces it (max) over all ranks,
  /// and skips the step when it is not zero. Absent: too many rows are an Error.
  TensorView overflow;
  const Communicator& group;             ///< expert parallel ranks; on a dry Exec maybe on paper
  comm::TensorCollectives& collectives;  ///< of rows, over the same ranks
};

/// Expert parallelism: rank r of the group holds experts [r E/P, (r+1) E/P). plan() exchanges the
/// counts of all ranks (the one wait of the host for a layer, "expert counts") and then, with every
/// copy of a token, which experts it is for and their weights. One copy of a token travels to a
/// rank, whatever the number of its experts there, and one row comes back: the weighted sum of
/// those experts, in fp32 in slot order, rounded to the element type. The sum over ranks runs in
/// rank order in fp32. In fp32 a layout therefore changes only the order of a token's sum over its
/// experts; in bf16 and fp16 each rank's partial sum is rounded once more. The same holds for dx.
/// Rows of an expert lie in the order of ranks, then of tokens: the order of one rank that has all
/// tokens.
///
/// When more rows arrive anywhere than the buffers hold, all ranks keep only the first copies from
/// each rank to each rank, as many as are sure to fit, and raise `overflow`.
///
/// Every rank of the group makes the same calls with the same number of tokens.
class ExpertDispatcher final : public nn::TokenDispatcher {
 public:
  /// What `parts` refers to must outlive it. `device` is that of the Execs.
  ExpertDispatcher(const ExpertDispatcherParts& parts, DeviceKind device);

  [[nodiscard]] std::int64_t max_rows(std::int64_t tokens, std::int64_t slots) const override;
  [[nodiscard]] nn::DispatchPlan reserve(const Store& store, std::int64_t tokens,
                                         std::int64_t slots) const override;
  void plan(const Exec& exec, const nn::DispatchPlan& plan,
            const nn::DispatchRouting& routing) override;
  void dispatch(const Exec& exec, const nn::DispatchForward& args,
                const nn::DispatchPlan& plan) override;
  void combine(const Exec& exec, const nn::DispatchCombine& args,
               const nn::DispatchPlan& plan) override;
  void combine_backward(const Exec& exec, const nn::DispatchCombineBackward& args,
                        const nn::DispatchPlan& plan) override;
  void weight_backward(const Exec& exec, const nn::DispatchWeightBackward& args,
                       const nn::DispatchPlan& plan) override;
  void dispatch_backward(const Exec& exec, const nn::DispatchBackward& args,
                         const nn::DispatchPlan& plan) override;

 private:
  class CountTable;
  [[nodiscard]] int ranks() const { return parts_.group.size(); }
  [[nodiscard]] std::int64_t experts_here() const { return parts_.experts / ranks(); }
  [[nodiscard]] ExchangeShape shape_of(const nn::DispatchPlan& plan) const;

  // Of plan(), in this order.
  [[nodiscard]] ConstTensorView within_capacity(const Exec& exec,
                                                const ConstTensorView& index_TK) const;
  struct Copies {
    TensorView target_TP, count_P;
    std::int64_t capacity = 0;  ///< copies that each rank keeps for each rank, 0: all
  };
  void sort_copies(const Exec& exec, const nn::DispatchPlan& plan, const Copies& copies) const;
  void plan_worst_case(const nn::DispatchPlan& plan) const;
  [[nodiscard]] CountTable exchange_counts(const Exec& exec, const nn::DispatchPlan& plan,
                                           const TensorView& count_P) const;
  [[nodiscard]] std::int64_t agree_on_overflow(const Exec& exec, const nn::DispatchPlan& plan,
                                               const CountTable& table) const;
  void fill_counts(const nn::DispatchPlan& plan, const CountTable& table, std::int64_t kept) const;
  void place_arrivals(const Exec& exec, const nn::DispatchPlan& plan,
                      const nn::DispatchRouting& routing) const;

  struct Exchange {
    ConstTensorView send;
    TensorView recv;
    bool back = false;  ///< copies return to where they came from
    nn::Overlap overlap = {};
  };
  void exchange(const Exec& exec, const Exchange& args, const nn::ExchangeCounts& counts) const;
  /// Copies of x for the ranks that want them; what arrives here, in scratch.
  [[nodiscard]] TensorView send_out(const Exec& exec, const ConstTensorView& x_TD,
                                    const nn::DispatchPlan& plan, const nn::Overlap& overlap) const;
  /// The transpose: one row for each copy that arrived goes back to where it came from.
  [[nodiscard]] TensorView send_back(const Exec& exec, const ConstTensorView& rows_N,
                                     const nn::DispatchPlan& plan,
                                     const nn::Overlap& overlap) const;

  ExpertDispatcherParts parts_;
  HostBuffer counts_;  ///< i32 [1 + P + E]: tokens, copies for each rank, slots of each expert
};

}  // namespace shoal::parallel
