#include "train/calibrate_step.hpp"

#include <algorithm>

#include "shoal/nn/model.hpp"
#include "shoal/nn/shard_group.hpp"
#include "shoal/nn/token_dispatcher.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/train/cost_model.hpp"
#include "train/measure_time.hpp"

namespace shoal::train {
namespace {

/// Tokens that follow each other in a fixed pattern; every target counts.
class ReferenceBatch {
 public:
  ReferenceBatch(const Exec& exec, std::int64_t sequences, std::int64_t length, std::int64_t vocab)
      : sequence_{length} {
    constexpr std::int64_t kStep = 7919;  // a prime: neighbours differ
    for (std::int64_t t = 0; t < sequences * length; ++t) {
      token_.push_back(static_cast<std::int32_t>(t * kStep % vocab));
      start_.push_back(static_cast<std::int32_t>(t - t % length));
      position_.push_back(static_cast<std::int32_t>(t % length));
      mask_.push_back(1);
    }
    token_T_ = place(exec, token_, DType::i32);
    start_T_ = place(exec, start_, DType::i32);
    position_T_ = place(exec, position_, DType::i32);
    mask_T_ = place(exec, mask_, DType::u8);
  }
  [[nodiscard]] nn::Batch view() const {
    return {.token_T = token_T_,
            .target_T = token_T_,
            .mask_T = mask_T_,
            .doc_start_T = start_T_,
            .position_T = position_T_,
            .sequence = sequence_};
  }

 private:
  template <class T>
  static TensorView place(const Exec& exec, const std::vector<T>& values, DType dtype) {
    const TensorView x = persistent(exec, {std::ssize(values)}, dtype, MemoryKind::batch);
    if (!exec.is_dry()) upload(exec, x.bytes_begin(), values.data(), x.bytes());
    return x;
  }
  std::int64_t sequence_;
  std::vector<std::int32_t> token_, start_, position_;
  std::vector<std::uint8_t> mask_;
  TensorView token_T_, start_T_, position_T_, mask_T_;
};

/// The whole model of one rank, forward and backward, without an optimizer.
class ReferencePass {
 public:
  ReferencePass(const Exec& exec, const RunConfig& config)
      : exec_{exec},
        layout_{nn::make_layout(config.model, nn::whole_model(config.model))},
        store_{exec, layout_.parameters, parse_precision(config.training.precision), true},
        state_{nn::make_model_state(exec, config.model)},
        dispatcher_{config.model.num_experts},
        model_{{.config = config.model,
                .compute = config.compute,
                .layout = layout_.stages.front(),
                .store = store_,
                .state = state_,
                .groups = {.tensor = &group_, .dispatcher = &dispatcher_}}},
        batch_{exec, config.training.micro_batch_size, config.training.seq_len,
               config.model.vocab_size},
        scales_{persistent(exec, {4}, DType::f32, MemoryKind::state)},
        seed_{persistent(exec, {1}, DType::i64, MemoryKind::state)},
        saved_{model_.make_saved()} {
    ops::fill(exec, scales_, 0.0F);
    zero(exec, seed_);
    constexpr std::uint64_t kSeed = 1;
    if (!exec.is_dry()) nn::initialise(exec, store_, kSeed);
  }

  void run() {
    const nn::Batch batch = batch_.view();
    const ConstTensorView scales = scales_;
    const nn::StepScalars scalars{.loss_grad_scale = scales.rows(0, 1),
                                  .aux_scale = scales.rows(1, 1),
                                  .z_scale = scales.rows(2, 1),
                                  .budget_scale = scales.rows(3, 1),
                                  .step_seed = seed_};
    model_.train_micro_batch(exec_, {.batch = batch, .scalars = scalars}, saved_, 0,
                             ops::Accumulate::overwrite);
  }

 private:
  const Exec& exec_;
  nn::RankLayout layout_;
  nn::ParameterStore store_;
  nn::ModelState state_;
  nn::LocalShardGroup group_;
  nn::LocalDispatcher dispatcher_;
  nn::Model model_;
  ReferenceBatch batch_;
  TensorView scales_, seed_;
  nn::MicroBatchSaved saved_;
};

}  // namespace

RunConfig reference_run(DeviceKind device, const std::string& precision) {
  const bool gpu = device == DeviceKind::cuda;
  RunConfig c;
  c.model.vocab_size = gpu ? 32768 : 1024;
  c.model.hidden_size = gpu ? 2048 : 192;
  c.model.num_hidden_layers = gpu ? 4 : 1;
  c.model.num_attention_heads = gpu ? 32 : 6;
  c.model.num_key_value_heads = gpu ? 8 : 3;
  c.model.head_dim = gpu ? 64 : 32;
  c.model.num_experts = gpu ? 16 : 8;
  c.model.moe_intermediate_size = gpu ? 2048 : 384;
  c.training.seq_len = gpu ? 2048 : 128;
  c.training.micro_batch_size = 4;
  c.training.global_batch_size = 4;
  c.training.precision = precision;
  return c;
}

double measure_micro_batch(const RunConfig& config, DeviceKind device, const Communicator& world) {
  constexpr int kRounds = 40;  // one undisturbed is enough
  const Exec dry = Exec::dry(device);
  ReferencePass{dry, config}.run();
  const Exec exec{device, dry.arena().plan()};
  ReferencePass pass{exec, config};
  return cold_time_of(
      exec, world, [&pass] { pass.run(); }, kRounds);
}

double whole_pass_factor(const Calibration& parts, DeviceKind device, const Communicator& world) {
  const RunConfig config = reference_run(device, parts.precision);
  const double measured = measure_micro_batch(config, device, world);
  constexpr int kOneNode = 1;
  const double predicted = CostModel{parts, kOneNode}.step(config, 1).pipeline_s;
  return std::clamp(measured / predicted, 0.5, 2.0);
}

ComputeRates slowed(const ComputeRates& rates, double factor) {
  ComputeRates r = rates;
  for (MatmulRate* product : {&r.dense, &r.grouped}) {
    product->flops_per_s /= factor;
    product->bytes_per_s /= factor;
    product->launch_s *= factor;
  }
  for (double* rate :
       {&r.attention_forward_flops_per_s, &r.attention_backward_flops_per_s, &r.norm_bytes_per_s,
        &r.swiglu_bytes_per_s, &r.permute_bytes_per_s, &r.cross_entropy_bytes_per_s}) {
    *rate /= factor;
  }
  r.launch_s *= factor;
  return r;
}

}  // namespace shoal::train
