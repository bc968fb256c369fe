#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/ops/optimizer.hpp"

namespace shoal::optim {

/// How parameters are updated. Section [optim]. All of it changes the numbers.
struct OptimizerConfig {
  std::string kind = "amf";             ///< amf | amf-classic | amf-nesterov | adamw | sgd
  double lr = 1e-3;                     ///< peak learning rate; means what it means in AdamW
  double beta1 = 0.9;                   ///< decay of m
  double beta2 = 0.95;                  ///< decay of v
  double eps = 1e-8;                    ///< added to sqrt(v)
  double nu = 0.5;                      ///< amf: share of the momentum u; 0 is AdamW bit for bit
  double mu_start = 0.9;                ///< decay of u; amf-classic, amf-nesterov, sgd: throughout
  double mu_end = 0.99;                 ///< amf: reached at the end of the warm-up
  double weight_decay = 0.1;            ///< decoupled; not for norms, biases and gates
  double clip_norm = 1.0;               ///< global gradient norm is clipped to this; 0: never
  std::string schedule = "cosine";      ///< constant | cosine | wsd (warm-up, stable, decay)
  std::int64_t warmup_steps = 100;      ///< steps of linear rise to lr
  double min_lr_ratio = 0.1;            ///< cosine and wsd end at this share of lr
  double decay_share = 0.2;             ///< wsd: share of all steps spent in the final linear decay
  std::string state_dtype = "f32";      ///< f32 | bf16 (m and u, stochastic rounding)
  double initial_loss_scale = 65536.0;  ///< fp16 only
  std::int64_t loss_scale_interval = 2000;  ///< fp16: good steps before the scale doubles
  std::int64_t max_skips_in_a_row = 50;     ///< as many end the run with exit 93
};
void validate(const OptimizerConfig& config, std::vector<std::string>& problems);

[[nodiscard]] ops::OptimizerKind parse_kind(const std::string& kind);

/// Learning rate of `step` (0-based) out of `total`: a pure function. Warm-up: lr (step + 1) /
/// warmup_steps.
[[nodiscard]] double learning_rate(const OptimizerConfig& config, std::int64_t step,
                                   std::int64_t total);
/// Decay of u in `step`: for amf linear from mu_start to mu_end over the warm-up (none: mu_end at
/// once), for the other kinds mu_start.
[[nodiscard]] double momentum(const OptimizerConfig& config, std::int64_t step);

}  // namespace shoal::optim
