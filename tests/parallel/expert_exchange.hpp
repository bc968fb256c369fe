#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "shoal/base/philox.hpp"
#include "shoal/parallel/expert_dispatcher.hpp"
#include "support/tensors.hpp"

namespace shoal::parallel::test {

using namespace shoal::test;  // NOLINT: the helpers of all tests

/// A routing of the tokens of all ranks; rank r holds tokens [r T, (r + 1) T).
struct Routing {
  std::string name;
  std::int64_t T = 0, K = 1, E = 1;  ///< tokens of one rank, experts of all ranks
  /// Expert of slot k of token t of all.
  std::function<std::int64_t(std::int64_t t, std::int64_t k)> expert;
  std::int64_t D = 5;
};

inline std::int64_t draw(std::int64_t t) {
  return philox::block(7, philox::Purpose::test, static_cast<std::uint64_t>(t)).x0;
}
/// K different experts anywhere.
inline Routing spread(std::int64_t T, std::int64_t K, std::int64_t E) {
  return {"spread T" + std::to_string(T) + " K" + std::to_string(K) + " E" + std::to_string(E), T,
          K, E, [E](std::int64_t t, std::int64_t k) { return (draw(t) + k * (E / 2 + 1)) % E; }};
}
inline Routing all_to_one(std::int64_t T, std::int64_t E) {
  return {"all tokens to one expert", T, 1, E, [E](std::int64_t, std::int64_t) { return E - 1; }};
}
/// All experts of rank 0, so that the other ranks get no token.
inline Routing all_to_rank_0(std::int64_t T, std::int64_t E, int ranks) {
  const std::int64_t here = E / ranks;
  return {"all tokens to rank 0", T, here, E,
          [here](std::int64_t t, std::int64_t k) { return (t + k) % here; }};
}
inline std::vector<Routing> routings(int ranks) {
  return {spread(13, 2, 8),  spread(31, 3, 4),  spread(1, 1, 4), spread(0, 2, 4),
          spread(67, 7, 16), all_to_one(11, 4), spread(2, 4, 4), all_to_rank_0(9, 12, ranks)};
}

/// What goes into an MoE layer: tokens [first, first + count) of all.
struct Inputs {
  Tensor index, weight, x, add, dy;  ///< of all tokens
  std::int64_t first, count;

  Inputs(const Exec& exec, const Routing& r, DType elem, int ranks, std::int64_t first_token,
         std::int64_t tokens)
      : index{from_ints(exec, {ranks * r.T, r.K}, indices(r, ranks))},
        weight{normal(exec, {ranks * r.T, r.K}, DType::f32, 31)},
        x{normal(exec, {ranks * r.T, r.D}, elem, 32)},
        add{normal(exec, {ranks * r.T, r.D}, elem, 33)},
        dy{normal(exec, {ranks * r.T, r.D}, elem, 34)},
        first{first_token},
        count{tokens} {}
  [[nodiscard]] TensorView mine(const Tensor& all) const { return all.view().rows(first, count); }

  static std::vector<std::int32_t> indices(const Routing& r, int ranks) {
    std::vector<std::int32_t> index;
    for (std::int64_t t = 0; t < ranks * r.T; ++t) {
      for (std::int64_t k = 0; k < r.K; ++k) {
        index.push_back(static_cast<std::int32_t>(r.expert(t, k)));
      }
    }
    return index;
  }
};

/// What comes out; `rows` are those in use.
struct Outputs {
  std::vector<float> offset, rows, y, dx, dweight;
};

/// One layer forward and backward through a dispatcher. Expert e, counted over all ranks,
/// multiplies its rows by 1 + e / 8.
class Layer {
 public:
  Layer(const Exec& exec, nn::TokenDispatcher& dispatcher, const Inputs& in,
        std::int64_t first_expert)
      : exec_{exec},
        dispatcher_{dispatcher},
        in_{in},
        first_expert_{first_expert},
        plan_{dispatcher.reserve(exec.arena().saved(0), in.count, slots())},
        rows_{poisoned(exec, {max_rows(), hidden()}, elem())},
        out_{poisoned(exec, {max_rows(), hidden()}, elem())},
        drows_{poisoned(exec, {max_rows(), hidden()}, elem())},
        dout_{poisoned(exec, {max_rows(), hidden()}, elem())},
        y_{poisoned(exec, {in.count, hidden()}, elem())},
        dx_{poisoned(exec, {in.count, hidden()}, elem())},
        weight_{poisoned(exec, {max_rows()}, DType::f32)},
        dweight_rows_{poisoned(exec, {max_rows()}, DType::f32)},
        dweight_{poisoned(exec, {in.count, slots()}, DType::f32)} {}

  void plan() {
    dispatcher_.plan(exec_, plan_,
                     {.index_TK = in_.mine(in_.index), .weight_TK = in_.mine(in_.weight)});
  }
  void dispatch(const nn::Overlap& overlap = {}) {
    dispatcher_.dispatch(exec_, {.rows_RD = rows_, .x_TD = in_.mine(in_.x), .overlap = overlap},
                         plan_);
    apply_experts(out_, rows_);
  }
  void combine() {
    dispatcher_.combine(exec_,
                        {.y_TD = y_,
                         .rows_RD = out_,
                         .weight_TK = in_.mine(in_.weight),
                         .add_TD = in_.mine(in_.add)},
                        plan_);
  }
  void combine_backward() {
    dispatcher_.combine_backward(exec_,
                                 {.drows_RD = dout_,
                                  .weight_R = weight_,
                                  .dy_TD = in_.mine(in_.dy),
                                  .weight_TK = in_.mine(in_.weight)},
                                 plan_);
    apply_experts(drows_, dout_);
    apply_weights();
  }
  void weight_backward() {
    dispatcher_.weight_backward(exec_, {.dweight_TK = dweight_, .dweight_R = dweight_rows_}, plan_);
  }
  void dispatch_backward(const nn::Overlap& overlap = {}) {
    dispatcher_.dispatch_backward(
        exec_, {.dx_TD = dx_, .drows_RD = drows_, .add_TD = in_.mine(in_.add), .overlap = overlap},
        plan_);
  }
  void run() {
    plan();
    dispatch();
    combine();
    combine_backward();
    weight_backward();
    dispatch_backward();
  }
  [[nodiscard]] Outputs outputs() const {
    Outputs out{.offset = download_floats(exec_, plan_.offset_E1),
                .rows = download_floats(exec_, rows_),
                .y = download_floats(exec_, y_),
                .dx = download_floats(exec_, dx_),
                .dweight = download_floats(exec_, dweight_)};
    out.rows.resize(static_cast<std::size_t>(out.offset.back()) *
                    static_cast<std::size_t>(hidden()));
    return out;
  }
  [[nodiscard]] const nn::DispatchPlan& plan_views() const { return plan_; }

 private:
  [[nodiscard]] std::int64_t slots() const { return in_.index.shape()[1]; }
  [[nodiscard]] std::int64_t hidden() const { return in_.x.shape()[1]; }
  [[nodiscard]] DType elem() const { return in_.x.dtype(); }
  [[nodiscard]] std::int64_t max_rows() const { return dispatcher_.max_rows(in_.count, slots()); }

  void apply_experts(const Tensor& to, const Tensor& from) const {
    const auto offset = download_as<std::int32_t>(exec_, plan_.offset_E1);
    auto values = download_floats(exec_, from);
    for (std::size_t e = 0; e + 1 < offset.size(); ++e) {
      const float factor =
          1.0F + static_cast<float>(first_expert_ + static_cast<std::int64_t>(e)) / 8.0F;
      for (std::int64_t i = offset[e] * hidden(); i < offset[e + 1] * hidden(); ++i) {
        values[static_cast<std::size_t>(i)] *= factor;
      }
    }
    upload_values(exec_, to, std::span<const float>{values});
  }

  /// What experts do with the weight of each row: the gradient of the rows is scaled, that of the
  /// weight is <dy, out>.
  void apply_weights() const {
    const auto offset = download_as<std::int32_t>(exec_, plan_.offset_E1);
    const auto weight = download_floats(exec_, weight_), dout = download_floats(exec_, dout_),
               out = download_floats(exec_, out_);
    auto drows = download_floats(exec_, drows_), dweight = download_floats(exec_, dweight_rows_);
    for (std::int64_t i = 0; i < offset.back() * hidden(); ++i) {
      const auto at = static_cast<std::size_t>(i), row = static_cast<std::size_t>(i / hidden());
      if (i % hidden() == 0) dweight[row] = 0.0F;
      dweight[row] += dout[at] * out[at];
      drows[at] *= weight[row];
    }
    upload_values(exec_, drows_, std::span<const float>{drows});
    upload_values(exec_, dweight_rows_, std::span<const float>{dweight});
  }

  const Exec& exec_;
  nn::TokenDispatcher& dispatcher_;
  const Inputs& in_;
  std::int64_t first_expert_;
  nn::DispatchPlan plan_;
  Tensor rows_, out_, drows_, dout_, y_, dx_, weight_, dweight_rows_, dweight_;
};

/// The same layer where one rank has all tokens and all experts.
inline Outputs one_rank(const Exec& exec, const Routing& r, DType elem, int ranks) {
  nn::LocalDispatcher dispatcher{r.E};
  const Inputs in{exec, r, elem, ranks, 0, ranks * r.T};
  Layer layer{exec, dispatcher, in, 0};
  layer.run();
  return layer.outputs();
}

}  // namespace shoal::parallel::test
