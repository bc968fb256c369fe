#pragma once
#include <deque>
#include <memory>
#include <optional>

#include "shoal/base/clock.hpp"
#include "shoal/data/loader.hpp"
#include "shoal/train/evaluator.hpp"
#include "shoal/train/stop_condition.hpp"
#include "train/console.hpp"
#include "train/report.hpp"
#include "train/restart.hpp"

namespace shoal::train {

/// What is fixed before a trainer exists.
struct TrainerParts {
  RunConfig config;
  RankLinks links;
  BatchShape shape;
  DeviceKind device = DeviceKind::cpu;
  ArenaPlan memory;
  std::vector<data::BlendSource> sources;
  std::shared_ptr<const data::TokenDataset> validation;  ///< may be null
  double flops_per_token = 0.0;
};

/// One run from its first to its last step on this rank.
class Trainer {
 public:
  explicit Trainer(const TrainerParts& parts);

  /// Fresh start, weights of another run, or everything of a checkpoint. Says which.
  [[nodiscard]] std::string start();
  /// Steps until the end or a reason to stop.
  [[nodiscard]] ExitCode run(const StopCondition& stop);
  [[nodiscard]] Accounting accounting() const;
  void add_time(Phase phase, double seconds) {
    accounting_.seconds[static_cast<std::size_t>(phase)] += seconds;
  }
  [[nodiscard]] const TrainState& state() const { return state_; }
  [[nodiscard]] const Exec& exec() const { return exec_; }

 private:
  /// A step given to the device whose result was not read yet.
  struct Pending {
    std::int64_t step = 0;
    double lr = 0.0;
    std::int64_t targets = 0;
    double started_s = 0.0;
    double seconds_data = 0.0;
  };
  [[nodiscard]] const Communicator& world() const { return groups().world(); }
  [[nodiscard]] const parallel::ProcessGroups& groups() const { return *parts_.links.groups; }
  [[nodiscard]] bool is_root() const { return world().is_root(); }
  void make_loader();
  void open_metrics();
  void launch();
  void consume();
  void flush();
  void note_overflow(const StepResult& result);
  [[nodiscard]] bool must_end() const { return too_many_skips_ || expert_factor_needed_ > 0.0; }
  void record(const Pending& done, const StepResult& result);
  [[nodiscard]] StepRow make_row(const Pending& done, const StepResult& result,
                                 const ResultReader::Numbers& numbers);
  void evaluate();
  void checkpoint();
  void after_step();
  [[nodiscard]] ExitCode finish(StopReason reason);

  TrainerParts parts_;
  Stopwatch clock_;
  Exec exec_;
  TrainState state_;
  TrainStep step_;
  ForwardChain chain_;
  Evaluator evaluator_;
  ResultReader reader_;
  Progress progress_;
  std::optional<data::Loader> loader_;
  std::optional<MetricsWriter> metrics_;
  std::deque<Pending> pending_;
  std::string tokenizer_hash_;
  std::string tokenizer_json_;
  double peak_flops_ = 0.0;
  double step_seconds_ = 0.0;                                 ///< of the last step
  double mean_seconds_ = 0.0;                                 ///< smoothed, for the ETA
  double evaluate_seconds_ = 0.0, checkpoint_seconds_ = 0.0;  ///< since the last row
  double earlier_seconds_ = 0.0;  ///< of the parts of the run before this one
  std::int64_t saved_step_ = -1, evaluated_step_ = -1;
  bool too_many_skips_ = false;
  double expert_factor_needed_ = 0.0;  ///< above 0: buffers of an expert exchange were too small
  Accounting accounting_;
};

}  // namespace shoal::train
