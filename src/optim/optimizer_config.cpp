#include "shoal/optim/optimizer_config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::optim {
namespace {

constexpr std::array<std::pair<const char*, ops::OptimizerKind>, 5> kKinds = {
    {{"amf", ops::OptimizerKind::amf},
     {"amf-classic", ops::OptimizerKind::amf_classic},
     {"amf-nesterov", ops::OptimizerKind::amf_nesterov},
     {"adamw", ops::OptimizerKind::adamw},
     {"sgd", ops::OptimizerKind::sgd}}};

class Checker {
 public:
  explicit Checker(std::vector<std::string>& problems) : problems_{&problems} {}
  void number(bool good, const char* key, double value, const char* allowed) {
    if (good) return;
    std::string text = std::to_string(value);
    problems_->push_back(std::string{"optim."} + key + " = " + text + ": allowed: " + allowed);
  }
  void word(bool good, const char* key, const std::string& value, const char* allowed) {
    if (good) return;
    problems_->push_back(std::string{"optim."} + key + " = " + value + ": allowed: " + allowed);
  }

 private:
  std::vector<std::string>* problems_;
};

void validate_formula(const OptimizerConfig& c, Checker& check) {
  const bool known = std::any_of(kKinds.begin(), kKinds.end(),
                                 [&c](const auto& kind) { return c.kind == kind.first; });
  check.word(known, "kind", c.kind, "amf, amf-classic, amf-nesterov, adamw, sgd");
  const auto decay = [](double x) { return x >= 0.0 && x < 1.0; };
  check.number(std::isfinite(c.lr) && c.lr >= 0.0, "lr", c.lr, ">= 0");
  check.number(decay(c.beta1), "beta1", c.beta1, "0 <= beta1 < 1");
  check.number(decay(c.beta2), "beta2", c.beta2, "0 <= beta2 < 1");
  check.number(c.eps > 0.0, "eps", c.eps, "> 0");
  check.number(c.nu >= 0.0 && c.nu <= 1.0, "nu", c.nu, "0 to 1");
  check.number(decay(c.mu_start), "mu_start", c.mu_start, "0 <= mu_start < 1");
  check.number(decay(c.mu_end), "mu_end", c.mu_end, "0 <= mu_end < 1");
  check.number(c.weight_decay >= 0.0, "weight_decay", c.weight_decay, ">= 0");
  check.number(c.clip_norm >= 0.0, "clip_norm", c.clip_norm, ">= 0 (0: no clipping)");
  check.word(c.state_dtype == "f32" || c.state_dtype == "bf16", "state_dtype", c.state_dtype,
             "f32, bf16");
}

double cosine(double share) {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * share));
}

}  // namespace

void validate(const OptimizerConfig& c, std::vector<std::string>& problems) {
  Checker check{problems};
  validate_formula(c, check);
  check.word(c.schedule == "constant" || c.schedule == "cosine" || c.schedule == "wsd", "schedule",
             c.schedule, "constant, cosine, wsd");
  check.number(c.warmup_steps >= 0, "warmup_steps", static_cast<double>(c.warmup_steps), ">= 0");
  check.number(c.min_lr_ratio >= 0.0 && c.min_lr_ratio <= 1.0, "min_lr_ratio", c.min_lr_ratio,
               "0 to 1");
  check.number(c.decay_share >= 0.0 && c.decay_share <= 1.0, "decay_share", c.decay_share,
               "0 to 1");
  check.number(c.initial_loss_scale >= 1.0 && std::isfinite(c.initial_loss_scale),
               "initial_loss_scale", c.initial_loss_scale, ">= 1");
  check.number(c.loss_scale_interval >= 1, "loss_scale_interval",
               static_cast<double>(c.loss_scale_interval), ">= 1");
  check.number(c.max_skips_in_a_row >= 1, "max_skips_in_a_row",
               static_cast<double>(c.max_skips_in_a_row), ">= 1");
}

ops::OptimizerKind parse_kind(const std::string& kind) {
  for (const auto& [text, value] : kKinds) {
    if (kind == text) return value;
  }
  throw InputError{"optim.kind = " + kind +
                   ": allowed: amf, amf-classic, amf-nesterov, adamw, sgd"};
}

double learning_rate(const OptimizerConfig& c, std::int64_t step, std::int64_t total) {
  if (step < c.warmup_steps) {
    return c.lr * static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
  }
  if (c.schedule == "constant") return c.lr;
  const bool is_cosine = c.schedule == "cosine";
  const auto decay_steps =
      static_cast<std::int64_t>(std::llround(c.decay_share * static_cast<double>(total)));
  const std::int64_t start =
      is_cosine ? c.warmup_steps : std::max(c.warmup_steps, total - decay_steps);
  if (step < start || total <= start) return c.lr;
  // The last step, total - 1, still moves: the end value belongs to step `total`.
  const double share =
      std::min(1.0, static_cast<double>(step - start) / static_cast<double>(total - start));
  const double fall = is_cosine ? cosine(share) : 1.0 - share;
  return c.lr * (c.min_lr_ratio + (1.0 - c.min_lr_ratio) * fall);
}

double momentum(const OptimizerConfig& c, std::int64_t step) {
  if (c.kind != "amf") return c.mu_start;
  if (step >= c.warmup_steps) return c.mu_end;
  const double share = static_cast<double>(step) / static_cast<double>(c.warmup_steps);
  return c.mu_start + (c.mu_end - c.mu_start) * share;
}

}  // namespace shoal::optim
