#pragma once
#include <array>
#include <string>

#include "shoal/train/metrics.hpp"
#include "shoal/train/plan.hpp"

namespace shoal::train {

enum class Phase { start, data, step, evaluate, checkpoint };
inline constexpr int kPhases = 5;

/// What the terminal shows before the first step.
struct Header {
  std::string devices;
  int ranks = 1;
  std::int64_t threads = 1;
  std::string transport;  ///< comm::CollectivesFactory::describe()
  const PlanReport* plan = nullptr;
  std::string start;  ///< "fresh start" or "continues from ..."
};
[[nodiscard]] std::string header_text(const Header& header, const RunConfig& config);

struct StepLine {
  std::int64_t total = 0;
  double imbalance = 0.0;
  double eta_s = 0.0;
};
[[nodiscard]] std::string step_text(const StepRow& row, const StepLine& line);
[[nodiscard]] std::string validation_text(const ValidationRow& row);

/// Time by phase, and what the rest went to.
struct Accounting {
  std::array<double, kPhases> seconds{};
  double total_s = 0.0;
  std::string waits;  ///< named host waits
};
[[nodiscard]] std::string accounting_text(const Accounting& accounting);

}  // namespace shoal::train
