#include "train/console.hpp"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "train/text.hpp"

namespace shoal::train {
namespace {

std::string row(const std::string& label, const std::string& value) {
  std::string text = "  " + label;
  text.resize(std::max<std::size_t>(text.size() + 1, 16), ' ');
  return text + value + "\n";
}

std::string scientific(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2e", value);
  return text.data();
}

}  // namespace

std::string header_text(const Header& h, const RunConfig& config) {
  const PlanReport& plan = *h.plan;
  std::string text = "shoal " SHOAL_VERSION "\n";
  text += row("devices", h.devices + ", " + std::to_string(h.ranks) + " rank" +
                             (h.ranks == 1 ? "" : "s") + ", " + std::to_string(h.threads) +
                             " CPU thread" + (h.threads == 1 ? "" : "s") + " each");
  text += row("layout", plan.layout + " ep=" + std::to_string(config.parallel.ep) +
                            (config.parallel.pp > 1 ? ", " + config.parallel.schedule : ""));
  if (h.ranks > 1) text += row("transport", h.transport);
  text += row("parameters", count_text(plan.size.total) + " total, " +
                                count_text(plan.size.active) + " active per token");
  text += row("memory", bytes_text(plan.memory.total()) +
                            " each rank: " + bytes_text(plan.memory.persistent) + " persistent, " +
                            bytes_text(plan.memory.saved_total()) + " saved, " +
                            bytes_text(plan.memory.scratch) + " scratch");
  text += row("step", std::to_string(config.training.global_batch_size) + " sequences of " +
                          std::to_string(config.training.seq_len) + " tokens, " +
                          config.training.precision + ", " + config.optim.kind);
  text += row("run", config.training.run_dir + ", " + h.start);
  return text;
}

std::string step_text(const StepRow& r, const StepLine& line) {
  const std::string total = std::to_string(line.total);
  std::string step = std::to_string(r.step);
  step.insert(0, total.size() - std::min(total.size(), step.size()), ' ');
  std::string text = "step " + step + "/" + total;
  text += "  loss " + fixed(r[Column::loss], 4);
  text += "  grad norm " + fixed(r[Column::grad_norm], 3);
  text += "  lr " + scientific(r[Column::lr]);
  text += "  " + si_text(r[Column::tokens_per_second]) + " tok/s";
  if (r[Column::mfu] > 0.0) text += "  mfu " + fixed(100.0 * r[Column::mfu], 1) + " %";
  if (line.imbalance > 0.0) text += "  imbalance " + fixed(line.imbalance, 2);
  if (r[Column::skipped] != 0.0) text += "  SKIPPED, loss scale " + si_text(r[Column::loss_scale]);
  return text + "  eta " + duration_text(line.eta_s);
}

std::string validation_text(const ValidationRow& r) {
  std::string text = "step " + std::to_string(r.step) + "  validation loss " + fixed(r.loss, 4) +
                     "  perplexity " + fixed(r.perplexity, 3);
  if (r.bits_per_byte == r.bits_per_byte) text += "  bits/byte " + fixed(r.bits_per_byte, 4);
  return text;
}

std::string accounting_text(const Accounting& a) {
  constexpr std::array<const char*, kPhases> kNames = {"start-up", "data", "steps", "evaluation",
                                                       "checkpoints"};
  std::string text = "time\n";
  const auto share = [&a](double seconds) {
    const double percent = a.total_s > 0.0 ? 100.0 * seconds / a.total_s : 0.0;
    return fixed(seconds, 2) + " s (" + fixed(percent, 1) + " %)";
  };
  for (std::size_t i = 0; i < kNames.size(); ++i) text += row(kNames[i], share(a.seconds[i]));
  const double known = std::accumulate(a.seconds.begin(), a.seconds.end(), 0.0);
  text += row("other", share(std::max(0.0, a.total_s - known)));
  text += row("total", fixed(a.total_s, 2) + " s");
  if (!a.waits.empty()) text += "host waits inside steps\n" + a.waits;
  return text;
}

}  // namespace shoal::train
