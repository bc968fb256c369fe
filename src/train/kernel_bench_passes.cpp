#include <algorithm>

#include "shoal/nn/lm_head.hpp"
#include "shoal/ops/gemm.hpp"
#include "shoal/ops/optimizer.hpp"
#include "shoal/ops/partials.hpp"
#include "shoal/ops/rmsnorm.hpp"
#include "shoal/optim/optimizer.hpp"
#include "train/kernel_bench.hpp"

namespace shoal::train {

void KernelBench::linear(const Linear& shape) {
  const ScratchScope scope{exec_};
  const std::int64_t T = tokens(), N = shape.outputs, K = shape.inputs;
  const TensorView x = random({T, K}), y = random({T, N}), w = random({N, K}, elem_, 0.02F);
  const TensorView grad = random({N, K}, DType::f32);
  const io::Json sizes = {{"T", T}, {"N", N}, {"K", K}};
  const Work work{.flops = 2.0 * static_cast<double>(T) * static_cast<double>(N * K)};
  const std::string name = shape.name;
  time(name + "_forward", sizes, work, [&] { ops::gemm_nt(exec_, {.c = y, .a = x, .b = w}); });
  time(name + "_dgrad", sizes, work, [&] { ops::gemm_nn(exec_, {.c = x, .a = y, .b = w}); });
  time(name + "_wgrad_add", sizes, work, [&] {
    ops::gemm_tn(exec_, {.c = grad, .a = y, .b = x, .accumulate = ops::Accumulate::add});
  });
}

void KernelBench::dense() {
  const nn::ModelConfig& m = config_.model;
  const std::int64_t heads = m.num_attention_heads, groups = m.num_key_value_heads;
  linear({"qkv", (heads + 2 * groups) * m.head_dim, m.hidden_size});
  linear({"o_proj", m.hidden_size, heads * m.head_dim});
}

void KernelBench::norm() {
  const ScratchScope scope{exec_};
  const std::int64_t T = tokens(), D = config_.model.hidden_size;
  const TensorView x = random({T, D}), branch = random({T, D}), sum = random({T, D});
  const TensorView y = random({T, D}), dx = random({T, D}), w = random({D});
  const TensorView rstd = ones({T}), dw = random({D}, DType::f32);
  const io::Json sizes = {{"T", T}, {"D", D}};
  const Work work{.bytes = bytes_of(4 * T * D)};
  time("norm_forward", sizes, work, [&] {
    ops::rmsnorm_forward(
        exec_, {.y_TD = y, .rstd_T = rstd, .sum_TD = sum, .x_TD = x, .add_TD = branch, .w_D = w});
  });
  const TensorView part = ops::scratch_parts(exec_, T, D);
  time("norm_backward", sizes, work, [&] {
    ops::rmsnorm_backward(exec_, {.dx_TD = dx,
                                  .part_PD = part,
                                  .dy_TD = y,
                                  .x_TD = x,
                                  .w_D = w,
                                  .rstd_T = rstd,
                                  .add_TD = branch});
    ops::sum_parts(exec_, dw, part, ops::Accumulate::overwrite);
  });
}

void KernelBench::loss_head() {
  const ScratchScope scope{exec_};
  const std::int64_t T = tokens(), D = config_.model.hidden_size, V = config_.model.vocab_size;
  const TensorView x = random({T, D}), dx = random({T, D});
  const TensorView w = random({V, D}, elem_, 0.02F), dw = random({V, D}, DType::f32);
  const TensorView scale = ones({1}), loss = ones({1});
  nn::LocalShardGroup group;
  const nn::LmHead head{{.value = w, .grad = dw}, config_.compute.loss_chunk, &group};
  const double flops = 6.0 * static_cast<double>(T) * static_cast<double>(D * V);
  time("loss_head", {{"T", T}, {"D", D}, {"V", V}}, {.flops = flops}, [&] {
    head.train(exec_, block_.batch(0), scale, {.loss_sum = loss, .dx_TD = dx, .x_TD = x});
  });
}

/// Weights, gradients and states of N parameters, as the configuration asks.
ops::OptimizerUpdate KernelBench::random_update(const TensorView& state, std::int64_t N) {
  const optim::StateTypes types = optim::state_types(config_.optim);
  const auto zeros = [&](std::optional<DType> type) {
    if (!type) return TensorView{};
    const TensorView x = scratch(exec_, {N}, *type);
    zero(exec_, x);
    return x;
  };
  const auto of = [this](DType elem, DType type) {
    return elem_ == elem ? std::optional{type} : std::nullopt;
  };
  if (!exec_.is_dry()) {
    const ops::StepState start{.lr = static_cast<float>(config_.optim.lr), .mu = 0.9F};
    upload(exec_, state.bytes_begin(), &start, state.bytes());
    exec_.synchronize();
  }
  return {.kind = optim::parse_kind(config_.optim.kind),
          .value = random({N}),
          .low = zeros(of(DType::bf16, DType::u16)),
          .master = zeros(of(DType::f16, DType::f32)),
          .grad = random({N}, DType::f32),
          .m = zeros(types.m),
          .v = zeros(types.v),
          .u = zeros(types.u),
          .state = state};
}

void KernelBench::optimizer() {
  const ScratchScope scope{exec_};
  constexpr std::int64_t kMost = std::int64_t{1} << 29;
  const std::int64_t N =
      std::min(kMost, nn::model_size(config_.model, config_.training.seq_len).total);
  const TensorView state = scratch(exec_, {sizeof(ops::StepState)}, DType::u8);
  const TensorView norm = scratch(exec_, {1}, DType::f64);
  const ops::OptimizerUpdate update = random_update(state, N);
  double moved = 2.0 * static_cast<double>(update.grad.bytes());  // for the norm, for the update
  for (const TensorView& x :
       {update.value, update.low, update.master, update.m, update.v, update.u}) {
    if (!x.absent()) moved += 2.0 * static_cast<double>(x.bytes());
  }
  time("optimizer_" + config_.optim.kind, {{"N", N}},
       {.bytes = moved, .parameters = static_cast<double>(N)}, [&] {
         ops::square_sum(exec_, norm, update.grad, ops::Accumulate::overwrite);
         ops::step_decide(exec_, {.state = state, .square_sum = norm});
         ops::optimizer_update(exec_, update);
       });
}

}  // namespace shoal::train
