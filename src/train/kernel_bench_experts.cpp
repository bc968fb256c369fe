#include "shoal/ops/gemm.hpp"
#include "shoal/ops/grouped_swiglu.hpp"
#include "shoal/ops/permute.hpp"
#include "shoal/ops/routed_swiglu.hpp"
#include "train/kernel_bench.hpp"

namespace shoal::train {

/// Operands of an expert layer, forward and backward, sorted by the routing of fresh weights.
struct KernelBench::ExpertOperands {
  ExpertOperands(KernelBench& bench, std::int64_t tokens, const nn::ModelConfig& m)
      : T{tokens},
        D{m.hidden_size},
        F{m.moe_intermediate_size},
        E{m.num_experts},
        K{m.num_experts_per_tok},
        saved{bench.moe_->layer().reserve(bench.exec_.scratch(), bench.block_.batch(0), tokens,
                                          nn::Recompute::none)},
        x{bench.random({T, D})},
        out{bench.random({R, D})},
        h{bench.random({R, F})},
        dh{bench.random({R, F})},
        dgate_up{bench.random({R, 2 * F})},
        up{bench.random({E, 2 * F, D}, bench.elem_, 0.02F)},
        down{bench.random({E, D, F}, bench.elem_, 0.02F)},
        dup{bench.random({E, 2 * F, D}, DType::f32)},
        ddown{bench.random({E, D, F}, DType::f32)} {
    bench.moe_->layer().forward(bench.exec_, bench.moe_->pass(bench.block_.batch(0)),
                                {.y_TD = {}, .x_TD = x, .add_TD = {}}, saved);
  }
  std::int64_t T, D, F, E, K, R = T * K;
  nn::MoeSaved saved;  ///< rows, plan and gate_up of a forward pass
  TensorView x, out, h, dh, dgate_up, up, down, dup, ddown;
  ConstTensorView offsets = saved.plan.offset_E1;
  /// FLOPs of the down product.
  double flops = 2.0 * static_cast<double>(R) * static_cast<double>(D * F);
};

io::Json KernelBench::expert_sizes() const {
  const nn::ModelConfig& m = config_.model;
  return {{"T", tokens()},
          {"D", m.hidden_size},
          {"F", m.moe_intermediate_size},
          {"E", m.num_experts},
          {"K", m.num_experts_per_tok}};
}

void KernelBench::experts() {
  const ScratchScope scope{exec_};
  const ExpertOperands x{*this, tokens(), config_.model};
  experts_forward(x);
  experts_backward(x);
  experts_weights(x, ops::Accumulate::overwrite);
  experts_weights(x, ops::Accumulate::add);
}

void KernelBench::experts_forward(const ExpertOperands& x) {
  const nn::MoeSaved& s = x.saved;
  const Work rows{.bytes = bytes_of(x.T * x.D + x.R * x.D)};
  time("gather", expert_sizes(), rows, [&] {
    ops::scatter_rows(exec_,
                      {.rows_RD = s.rows_RD, .x_TD = x.x, .row_of_slot_TK = s.plan.row_of_slot_TK});
  });
  time("up_swiglu", expert_sizes(), {.flops = 2.0 * x.flops}, [&] {
    ops::grouped_swiglu_forward(exec_, {.h_RF = x.h,
                                        .gate_up_RF = s.experts.gate_up_RF,
                                        .rows_RD = s.rows_RD,
                                        .gate_up_EFD = x.up,
                                        .offsets_E1 = x.offsets});
  });
  time("down", expert_sizes(), {.flops = x.flops}, [&] {
    ops::grouped_gemm_nt(exec_, {.c = x.out, .a = x.h, .b = x.down, .offsets_E1 = x.offsets});
  });
  time("combine", expert_sizes(), rows, [&] {
    ops::combine_rows(exec_, {.y_TD = x.x,
                              .rows_RD = x.out,
                              .row_of_slot_TK = s.plan.row_of_slot_TK,
                              .weight_TK = s.router.weight_TK,
                              .add_TD = {}});
  });
}

void KernelBench::experts_backward(const ExpertOperands& x) {
  const nn::MoeSaved& s = x.saved;
  time("down_dgrad", expert_sizes(), {.flops = x.flops}, [&] {
    ops::grouped_gemm_nn(exec_, {.c = x.dh, .a = x.out, .b = x.down, .offsets_E1 = x.offsets});
  });
  const ScratchScope scope{exec_};
  const TensorView weight = random({x.R}, DType::f32), dweight = random({x.R}, DType::f32);
  time("swiglu_backward", expert_sizes(), {.bytes = bytes_of(6 * x.R * x.F)}, [&] {
    ops::routed_swiglu_backward(exec_, {.dgate_up_RF = x.dgate_up,
                                        .h_RF = x.h,
                                        .dweight_R = dweight,
                                        .dh_RF = x.dh,
                                        .gate_up_RF = s.experts.gate_up_RF,
                                        .weight_R = weight,
                                        .rows_limit = s.plan.rows_limit()});
  });
  time("up_dgrad", expert_sizes(), {.flops = 2.0 * x.flops}, [&] {
    ops::grouped_gemm_nn(exec_,
                         {.c = s.rows_RD, .a = x.dgate_up, .b = x.up, .offsets_E1 = x.offsets});
  });
}

void KernelBench::experts_weights(const ExpertOperands& x, ops::Accumulate accumulate) {
  const std::string suffix = accumulate == ops::Accumulate::add ? "_wgrad_add" : "_wgrad";
  time("down" + suffix, expert_sizes(), {.flops = x.flops}, [&] {
    ops::grouped_gemm_tn(
        exec_,
        {.c = x.ddown, .a = x.out, .b = x.h, .offsets_E1 = x.offsets, .accumulate = accumulate});
  });
  time("up" + suffix, expert_sizes(), {.flops = 2.0 * x.flops}, [&] {
    ops::grouped_gemm_tn(exec_, {.c = x.dup,
                                 .a = x.dgate_up,
                                 .b = x.saved.rows_RD,
                                 .offsets_E1 = x.offsets,
                                 .accumulate = accumulate});
  });
}

void KernelBench::moe_layer() {
  const ScratchScope scope{exec_};
  const std::int64_t T = tokens(), D = config_.model.hidden_size;
  const nn::Batch batch = block_.batch(0);
  const nn::Pass pass = moe_->pass(batch);
  const TensorView x = random({T, D}), y = random({T, D}), dx = random({T, D});
  const nn::Moe& layer = moe_->layer();
  const nn::MoeSaved saved = layer.reserve(exec_.scratch(), batch, T, nn::Recompute::none);
  nn::MoeDelta delta = layer.reserve_delta(exec_.scratch(), T);
  const double forward = 6.0 * static_cast<double>(T * config_.model.num_experts_per_tok) *
                         static_cast<double>(D * config_.model.moe_intermediate_size);
  time("moe_forward", expert_sizes(), {.flops = forward},
       [&] { layer.forward(exec_, pass, {.y_TD = y, .x_TD = x, .add_TD = {}}, saved); });
  time("moe_backward", expert_sizes(), {.flops = 2.0 * forward}, [&] {
    layer.backward_input(exec_, pass, {.dx_TD = dx, .dy_TD = y}, saved, delta);
    layer.backward_weight(exec_, x, saved, delta, ops::Accumulate::overwrite);
  });
}

void KernelBench::router() {
  const ScratchScope scope{exec_};
  const std::int64_t T = tokens(), D = config_.model.hidden_size, E = config_.model.num_experts;
  const std::int64_t K = config_.model.num_experts_per_tok;
  const nn::Batch batch = block_.batch(0);
  const nn::Pass pass = moe_->pass(batch);
  const nn::Router& router = moe_->router();
  const TensorView x = random({T, D}), dx = random({T, D}), dweight = random({T, K}, DType::f32);
  const nn::RouterSaved saved = router.reserve(exec_.scratch(), batch, T);
  const nn::RouterDelta delta = router.reserve_delta(exec_.scratch(), T);
  const nn::DispatchPlan plan = moe_->dispatcher().reserve(exec_.scratch(), T, K);
  const ops::RouterChunkSums sums = router.scratch_sums(exec_, batch, T);
  const io::Json sizes = {{"T", T}, {"D", D}, {"E", E}, {"K", K}};
  const auto table = static_cast<double>(T * E * size_of(DType::f32));  // logits, scores, gradient
  time("router_forward", sizes, {.bytes = bytes_of(T * D) + 2.0 * table}, [&] {
    router.forward(exec_, x, saved, sums);
    moe_->dispatcher().plan(exec_, plan,
                            {.index_TK = saved.index_TK, .weight_TK = saved.weight_TK});
    router.statistics(exec_, batch, saved,
                      {.ledger = nullptr, .kept_E = plan.count_E, .sums = sums});
  });
  time("router_backward", sizes, {.bytes = bytes_of(2 * T * D) + 2.0 * table}, [&] {
    router.backward_input(exec_, pass, {.dx_TD = dx, .dweight_TK = dweight}, saved, delta);
    router.backward_weight(exec_, x, delta, ops::Accumulate::overwrite);
  });
}

}  // namespace shoal::train
