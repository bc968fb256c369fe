#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// State of training on the device (DESIGN section 2): kernels read and update it, so that no step
/// waits for the host and a captured step stays valid. The host writes the first group before a
/// step; step_decide() writes the rest. Plain data, stored as it is in a u8 tensor and in
/// checkpoints.
struct StepState {
  // written by the host before each step
  float lr = 0.0F;
  float mu = 0.0F;             ///< momentum of AMF's u in this step
  std::int64_t step_seed = 0;  ///< for dropout and stochastic rounding
  // carried from step to step; untouched by a skipped step
  std::int64_t good_steps = 0;
  double beta1_power = 1.0;  ///< beta1^good_steps
  double beta2_power = 1.0;
  double mu_product = 1.0;  ///< product of the mu of all good steps
  // loss scaling (fp16; 1 otherwise)
  float loss_scale = 1.0F;
  std::int32_t scale_good_steps = 0;  ///< since the last change of loss_scale
  // decided in this step
  float grad_norm = 0.0F;     ///< global, unscaled, before clipping
  float grad_factor = 0.0F;   ///< multiplies gradients: clip factor / loss scale
  float correction1 = 1.0F;   ///< 1 / (1 - beta1_power)
  float correction2 = 1.0F;   ///< 1 / (1 - beta2_power)
  float correction_u = 1.0F;  ///< 1 / (1 - mu_product)
  std::int32_t skip = 0;      ///< 1: the update of this step does nothing
  std::int32_t skips_in_a_row = 0;
  std::int64_t skipped_total = 0;
};

/// Elements [first, first + count) of a buffer.
struct SumRun {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
/// The runs that a square_sum counts, dealt to parts of equal size. Made on the host, kept on the
/// device.
struct SumTable {
  std::vector<SumRun> runs;         ///< of part 0, then of part 1, ...
  std::vector<std::int32_t> begin;  ///< [parts + 1], index of a part's first run
};
[[nodiscard]] SumTable make_sum_table(std::span<const SumRun> runs);

/// A SumTable on the device; absent views: no table.
struct SumTableViews {
  ConstTensorView runs;   ///< u8, SumRun
  ConstTensorView begin;  ///< i32 [parts + 1]
};
/// out (f64 [1]) (+)= sum of x^2 over f32 x, in a fixed order. With `table`, over its runs only;
/// one run over all of x gives the same bits as no table.
void square_sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
                Accumulate accumulate, const SumTableViews& table = {});

/// out (f64 [1]) = infinity when overflow (f32 [1]) is above 0 or not a number: step_decide() then
/// skips the step as for any norm that is not finite.
void flag_overflow(const Exec& exec, const TensorView& out, const ConstTensorView& overflow);

/// From the global sum of squared (scaled) gradients: norm, skip (norm not finite), clip factor
/// min(1, max_norm / (norm + 1e-6)), and, unless skipped, the powers and corrections of this good
/// step. Dynamic loss scale: doubles after `growth_interval` good steps in a row, halves on a skip
/// (never below 1).
struct StepDecide {
  TensorView state;            ///< in/out u8 [sizeof(StepState)]
  ConstTensorView square_sum;  ///< f64 [1]
  float max_norm = 1.0F;       ///< 0: no clipping
  double beta1 = 0.9, beta2 = 0.95;
  bool dynamic_loss_scale = false;
  int growth_interval = 2000;
};
void step_decide(const Exec& exec, const StepDecide& args);

enum class OptimizerKind { amf, amf_classic, amf_nesterov, adamw, sgd };

/// Parameters that lie together in the weights and in the states.
struct UpdateSegment {
  std::int64_t value = 0;    ///< first element in `value` and `grad`
  std::int64_t state = 0;    ///< first element in low, master, m, v and u
  std::int64_t count = 0;    ///< at most kSegmentElements in a table
  std::int64_t first = 0;    ///< global index of the first element ...
  std::uint32_t stream = 0;  ///< ... in this parameter: both key stochastic rounding
  std::int32_t decay = 1;    ///< 0: no weight decay
};
inline constexpr std::int64_t kSegmentElements = 16384;
/// Segments in pieces of at most kSegmentElements, for a table that a kernel shares out.
[[nodiscard]] std::vector<UpdateSegment> cut_segments(std::span<const UpdateSegment> segments);

/// One fused pass over N parameters (DESIGN section 5), with g = grad * state.grad_factor; does
/// nothing when state.skip is set.
///   adamw:        m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; d = (m c1) / (sqrt(v c2) + eps);
///                 p -= lr (d + wd p)
///   amf:          the same d; u = mu u + (1-mu) d; p -= lr ((1-nu) d + nu u cu + wd p);
///                 with nu = 0, u is neither read nor written and the result is adamw's bit for bit
///   amf_classic:  m, v as above without correction; u = mu u + lr m / (sqrt(v) + eps); p -= u
///                 (mu = state.mu, no weight decay)
///   amf_nesterov: no m; v as above; h = g / (sqrt(v c2) + eps); u = mu u + (1-mu) h;
///                 p -= lr (mu u + (1-mu) h + wd p)
///   sgd:          u = mu u + g; p -= lr (u + wd p)
/// Master weights are fp32: `value` itself when it is f32; value f16 has an f32 `master`; value
/// bf16 is its high half, `low` the 16 low bits (round half up, so that low >= 0x8000 tells that
/// the high half was rounded up).
/// Without `segments` the states lie as the values do (S = N). With them only what they name is
/// read and written.
struct OptimizerUpdate {
  OptimizerKind kind = OptimizerKind::amf;
  TensorView value;      ///< in/out elem [N], the working weights
  TensorView low;        ///< in/out u16 [S], bf16 only
  TensorView master;     ///< in/out f32 [S], f16 only
  ConstTensorView grad;  ///< f32 [N]
  TensorView m, v, u;    ///< in/out f32 [S]; m and u may both be bf16 (stochastic rounding); absent
                         ///< where the kind has none
  ConstTensorView state;     ///< u8, StepState
  ConstTensorView segments;  ///< u8, UpdateSegment; optional
  double beta1 = 0.9, beta2 = 0.95;
  float eps = 1e-8F, nu = 0.5F, weight_decay = 0.0F;
  std::int64_t first = 0;  ///< without segments: global index of element 0
};
void optimizer_update(const Exec& exec, const OptimizerUpdate& args);

/// Splits fp32 master values into the working weights and what is needed to restore them, and back.
struct MasterSplit {
  TensorView value;   ///< elem [N]
  TensorView low;     ///< u16 [N], bf16 only
  TensorView master;  ///< f32 [N]: for f16 kept beside, otherwise a plain f32 buffer
};
void split_master(const Exec& exec, const MasterSplit& args);  ///< master -> value (, low)
void join_master(const Exec& exec, const MasterSplit& args);   ///< value, low -> master

/// The float64 reference of optimizer_update for one parameter; tests hold both back ends to it.
struct OptimizerScalars {
  double p, m, v, u;
};
[[nodiscard]] OptimizerScalars optimizer_reference(const OptimizerUpdate& args,
                                                   const StepState& state, OptimizerScalars x,
                                                   double grad);

namespace cpu {
void square_sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
                Accumulate accumulate, const SumTableViews& table);
void flag_overflow(const Exec& exec, const TensorView& out, const ConstTensorView& overflow);
void step_decide(const Exec& exec, const StepDecide& args);
void optimizer_update(const Exec& exec, const OptimizerUpdate& args);
void split_master(const Exec& exec, const MasterSplit& args);
void join_master(const Exec& exec, const MasterSplit& args);
}  // namespace cpu
namespace cuda {
void square_sum(const Exec& exec, const TensorView& out, const ConstTensorView& x,
                Accumulate accumulate, const SumTableViews& table);
void flag_overflow(const Exec& exec, const TensorView& out, const ConstTensorView& overflow);
void step_decide(const Exec& exec, const StepDecide& args);
void optimizer_update(const Exec& exec, const OptimizerUpdate& args);
void split_master(const Exec& exec, const MasterSplit& args);
void join_master(const Exec& exec, const MasterSplit& args);
}  // namespace cuda
}  // namespace shoal::ops
