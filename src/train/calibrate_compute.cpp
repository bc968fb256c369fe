#include "train/calibrate_compute.hpp"

#include "shoal/ops/cross_entropy.hpp"
#include "shoal/ops/optimizer.hpp"
#include "shoal/ops/partials.hpp"
#include "shoal/ops/permute.hpp"
#include "shoal/ops/rmsnorm.hpp"
#include "shoal/ops/swiglu.hpp"
#include "train/rate_probe.hpp"

namespace shoal::train {

double RateProbe::norm() const {
  const ScratchScope scope{exec_};
  const std::int64_t T = sizes_.tokens, D = sizes_.hidden;
  const TensorView x = random({T, D}), y = random({T, D}), dx = random({T, D}), w = random({D});
  const TensorView rstd = scratch(exec_, {T}, DType::f32), dw = scratch(exec_, {D}, DType::f32);
  const TensorView part = ops::scratch_parts(exec_, T, D);
  const double seconds = time([&] {
    ops::rmsnorm_forward(
        exec_, {.y_TD = y, .rstd_T = rstd, .sum_TD = {}, .x_TD = x, .add_TD = {}, .w_D = w});
    ops::rmsnorm_backward(exec_, {.dx_TD = dx,
                                  .part_PD = part,
                                  .dy_TD = y,
                                  .x_TD = x,
                                  .w_D = w,
                                  .rstd_T = rstd,
                                  .add_TD = {}});
    ops::sum_parts(exec_, dw, part, ops::Accumulate::overwrite);
  });
  return 5.0 * static_cast<double>(x.bytes()) / seconds;
}

double RateProbe::swiglu() const {
  const ScratchScope scope{exec_};
  const std::int64_t R = sizes_.tokens, F = sizes_.width;
  const TensorView gate_up = random({R, 2 * F}), h = random({R, F}), grad = random({R, 2 * F});
  const double seconds = time([&] {
    ops::swiglu_forward(exec_, {.h_RF = h, .gate_up_RF = gate_up, .rows_limit = {}});
    ops::swiglu_backward(
        exec_, {.dgate_up_RF = grad, .dh_RF = h, .gate_up_RF = gate_up, .rows_limit = {}});
  });
  return 8.0 * static_cast<double>(h.bytes()) / seconds;
}

double RateProbe::permute() const {
  const ScratchScope scope{exec_};
  constexpr std::int64_t K = 2, kStep = 7;  // a stride that visits every slot once
  const std::int64_t T = sizes_.tokens, D = sizes_.hidden, R = T * K;
  std::vector<std::int32_t> slot_of_row, row_of_slot(static_cast<std::size_t>(R));
  for (std::int64_t r = 0; r < R; ++r) {
    slot_of_row.push_back(static_cast<std::int32_t>(r * kStep % R));
    row_of_slot[static_cast<std::size_t>(slot_of_row.back())] = static_cast<std::int32_t>(r);
  }
  const TensorView slots = integers(slot_of_row, {R}), places = integers(row_of_slot, {T, K});
  const TensorView x = random({T, D}), rows = random({R, D}), weight = random({T, K}, DType::f32);
  const double seconds = time([&] {
    ops::gather_rows(exec_,
                     {.rows_RD = rows, .x_TD = x, .slot_of_row_R = slots, .slots_per_token = K});
    ops::combine_rows(
        exec_,
        {.y_TD = x, .rows_RD = rows, .row_of_slot_TK = places, .weight_TK = weight, .add_TD = {}});
  });
  return static_cast<double>(3 * rows.bytes() + x.bytes()) / seconds;
}

double RateProbe::cross_entropy() const {
  const ScratchScope scope{exec_};
  const std::int64_t T = sizes_.tokens, V = sizes_.vocabulary;
  const TensorView logits = random({T, V}), loss = scratch(exec_, {T}, DType::f32);
  const TensorView targets =
      integers(std::vector<std::int32_t>(static_cast<std::size_t>(T), 1), {T});
  const std::vector<std::uint8_t> ones(static_cast<std::size_t>(T), 1);
  const TensorView mask = scratch(exec_, {T}, DType::u8), scale = random({1}, DType::f32);
  upload(exec_, mask.bytes_begin(), ones.data(), mask.bytes());
  const double seconds = time([&] {
    ops::cross_entropy(exec_, {.loss_T = loss,
                               .logits_TV = logits,
                               .target_T = targets,
                               .mask_T = mask,
                               .grad_scale = scale});
  });
  return 2.0 * static_cast<double>(logits.bytes()) / seconds;
}

double RateProbe::optimizer() const {
  const ScratchScope scope{exec_};
  const std::int64_t N = sizes_.parameters;
  const TensorView p = random({N}, DType::f32), g = random({N}, DType::f32);
  const TensorView m = random({N}, DType::f32), v = random({N}, DType::f32);
  zero(exec_, v);
  const TensorView state = scratch(exec_, {sizeof(ops::StepState)}, DType::u8);
  const TensorView norm = scratch(exec_, {1}, DType::f64);
  zero(exec_, state);
  const double seconds = time([&] {
    ops::square_sum(exec_, norm, g, ops::Accumulate::overwrite);
    ops::optimizer_update(exec_, {.kind = ops::OptimizerKind::adamw,
                                  .value = p,
                                  .low = {},
                                  .master = {},
                                  .grad = g,
                                  .m = m,
                                  .v = v,
                                  .u = {},
                                  .state = state});
  });
  constexpr double kBytes = 2.0 * (4.0 + 8.0) + 4.0 + 4.0;
  return kBytes * static_cast<double>(N) / seconds;
}

ArenaPlan calibration_memory(DeviceKind device) {
  const std::int64_t unit = std::int64_t{1} << 30;
  return {
      .persistent = 0, .saved = {}, .scratch = device == DeviceKind::cuda ? 6 * unit : unit / 2};
}

ComputeRates measure_rates(const Exec& exec, DType elem, const Communicator& world) {
  const RateProbe probe{exec, elem, world};
  ComputeRates rates;
  rates.launch_s = probe.launch();
  rates.dense = probe.dense();
  rates.grouped = probe.grouped();
  probe.attention(rates);
  rates.norm_bytes_per_s = probe.norm();
  rates.swiglu_bytes_per_s = probe.swiglu();
  rates.permute_bytes_per_s = probe.permute();
  rates.cross_entropy_bytes_per_s = probe.cross_entropy();
  rates.optimizer_bytes_per_s = probe.optimizer();
  rates.copy_bytes_per_s = probe.copy_rate();
  return rates;
}

}  // namespace shoal::train
