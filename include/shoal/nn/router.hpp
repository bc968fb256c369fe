#pragma once
#include "shoal/nn/model_config.hpp"
#include "shoal/nn/model_state.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/nn/pass.hpp"
#include "shoal/ops/router.hpp"

namespace shoal::nn {

class ShardGroup;

/// T counts the tokens of this rank's part of the micro-batch.
struct RouterSaved {
  TensorView logits_TE, score_TE;  ///< f32
  TensorView index_TK;             ///< i32
  TensorView weight_TK;            ///< f32
  /// i32: of each group of the balance statistics (a sequence, or the micro-batch). Where groups
  /// reach over ranks S counts the fragments of groups that lie here, and each row holds the counts
  /// of its whole group.
  TensorView count_SE;
};
struct RouterDelta {
  TensorView dlogits_TE;  ///< f32
};

/// Chooses the experts of each token, in fp32 whatever the precision, and injects the balance
/// gradients (aux and z loss) in its backward. The gradients of a rank are partial sums over its
/// tokens, and so is what it adds to the ledger.
class Router {
 public:
  Router(const ModelConfig& config, const Weight& weight, const TensorView& bias_E,
         ShardGroup* group);

  [[nodiscard]] RouterSaved reserve(const Store& store, const Batch& batch,
                                    std::int64_t tokens) const;
  [[nodiscard]] RouterDelta reserve_delta(const Store& store, std::int64_t tokens) const;
  [[nodiscard]] std::int64_t experts() const { return weight_.value.dim(0); }
  [[nodiscard]] std::int64_t hidden() const { return weight_.value.dim(1); }
  [[nodiscard]] std::int64_t slots() const { return slots_; }
  /// Tokens of the micro-batch when a part has this many.
  [[nodiscard]] std::int64_t whole(std::int64_t tokens) const;

  /// Scratch in which forward begins the statistics of its choice.
  [[nodiscard]] ops::RouterChunkSums scratch_sums(const Exec& exec, const Batch& batch,
                                                  std::int64_t tokens) const;
  /// `sums` may be absent.
  void forward(const Exec& exec, const ConstTensorView& x_TD, const RouterSaved& saved,
               const ops::RouterChunkSums& sums) const;
  /// Shows the choice to a tap; true, and weights follow, where it replaced the choice.
  [[nodiscard]] bool show(const Exec& exec, RoutingTap& tap, const Batch& batch,
                          const RouterSaved& saved, std::int64_t layer) const;
  /// Where a micro-batch's routing is added up.
  struct Account {
    const RouterLedger* ledger = nullptr;  ///< null: nowhere
    ConstTensorView kept_E;                ///< i32: slots that got a row, by expert
    ops::RouterChunkSums sums;             ///< of this choice, from forward; or absent
  };
  /// Balance statistics of the routing in `saved`.
  void statistics(const Exec& exec, const Batch& batch, const RouterSaved& saved,
                  const Account& account) const;
  /// Gradients of the logits, then dx (elem) = dlogits W.
  struct BackwardInput {
    TensorView dx_TD;  ///< out elem
    ConstTensorView dweight_TK;
  };
  void backward_input(const Exec& exec, const Pass& pass, const BackwardInput& args,
                      const RouterSaved& saved, const RouterDelta& delta) const;
  void backward_weight(const Exec& exec, const ConstTensorView& x_TD, const RouterDelta& delta,
                       ops::Accumulate accumulate) const;

 private:
  /// How the balance groups lie over the parts of a micro-batch.
  struct Groups {
    std::int64_t tokens = 0;     ///< of a group
    std::int64_t fragment = 0;   ///< tokens of a fragment; a part holds whole fragments
    std::int64_t fragments = 0;  ///< of a part
    [[nodiscard]] bool spread() const { return fragment < tokens; }
  };
  [[nodiscard]] Groups groups(const Batch& batch, std::int64_t tokens) const;
  /// Writes the counts of whole groups; `fragment_SE` are those of this rank's tokens.
  void sum_groups(const Exec& exec, const Groups& groups, const TensorView& count_SE,
                  const TensorView& fragment_SE) const;

  Weight weight_;  ///< f32 [E, D]
  TensorView bias_E_;
  ops::RouterScore score_;
  std::int64_t slots_;
  bool normalise_, per_sequence_, aux_, z_;
  float scaling_;
  ShardGroup* group_;
};

}  // namespace shoal::nn
