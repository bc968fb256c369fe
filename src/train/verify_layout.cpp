#include "shoal/train/verify_layout.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "shoal/base/error.hpp"
#include "shoal/train/plan.hpp"
#include "train/planted_fault.hpp"
#include "train/routing_table.hpp"

namespace shoal::train {
namespace {

constexpr double kTolerance = 1e-5;    // of fp32
constexpr double kTinyNorm = 1e-12;    // below it a gradient counts as zero
constexpr double kLowPrecision = 2.0;  // times what one rank loses against fp32
constexpr std::size_t kFewElements = 64;
constexpr double kLossFp32 = 1e-5, kLossHalf = 2e-2;
constexpr double kNearTieHalf = 3e-2;  // scores of rounded hidden states

/// The same run on one rank, in the layout's micro-batches.
RunConfig one_rank(const RunConfig& config, const BatchShape& shape) {
  RunConfig one = config;
  one.parallel = {};
  one.training.micro_batch_size = shape.micro_batch;
  return one;
}

/// A run of one rank with what it needs.
struct Alone {
  explicit Alone(const RunConfig& config)
      : self{Communicator::self()},
        groups{self, {}},
        factory{
            self, choose_device(config.training.device), {.choice = comm::TransportChoice::mpi}},
        run{config, {.groups = &groups, .factory = &factory}} {}
  Communicator self;
  parallel::ProcessGroups groups;
  comm::CollectivesFactory factory;
  ProbeRun run;
};

/// "self_attn.k_norm" of "layers.3.self_attn.k_norm".
std::string kind_of(const std::string& name) {
  const std::string prefix = "layers.";
  if (!name.starts_with(prefix)) return name;
  return name.substr(name.find('.', prefix.size()) + 1);
}

double norm(const std::vector<float>& x) {
  double sum = 0.0;
  for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

/// |x - reference| / |reference|; where the reference is zero, |x|.
double deviation(const std::vector<float>& x, const std::vector<float>& reference) {
  expect(x.size() == reference.size(), "a parameter has another size than on one rank");
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(x[i]) - static_cast<double>(reference[i]);
    sum += d * d;
  }
  const double scale = norm(reference);
  return std::sqrt(sum) / (scale > kTinyNorm ? scale : 1.0);
}

/// Runs the comparison; one-rank runs exist on rank 0 only.
class Verifier {
 public:
  Verifier(const RunConfig& config, const Communicator& world, const VerifyOptions& options)
      : config_{config},
        world_{world},
        options_{options},
        groups_{world, config.parallel},
        factory_{world, choose_device(config.training.device),
                 collectives_options(config.parallel)},
        layout_{with_fault(config, options.fault), {.groups = &groups_, .factory = &factory_}},
        tokens_{config.training.global_batch_size * config.training.seq_len},
        chosen_{config.model, tokens_},
        reference_{config.model, tokens_} {
    if (world.is_root()) alone_ = std::make_unique<Alone>(one_rank(config, layout_.shape()));
  }

  VerifyReport run() {
    report_.layout =
        groups_.layout().dense.describe() + " ep=" + std::to_string(groups_.ep().size());
    compare_start();
    step_both();
    compare_samples_and_routing();
    compare_gradients();
    return report_;
  }

 private:
  void compare_start() {
    const GlobalTensors mine = layout_.weights();
    if (!world_.is_root()) return;
    for (const auto& [name, values] : alone_->run.weights()) {
      const auto found = mine.find(name);
      report_.parameters.push_back(
          {.name = name, .same_start = found != mine.end() && found->second == values});
    }
  }

  void step_both() {
    plant(options_.fault, layout_);
    RoutingRecorder watch{chosen_};
    step(layout_, watch);
    chosen_.merge(world_);
    if (!world_.is_root()) return;
    RoutingRecorder watch_alone{reference_};
    step(alone_->run, watch_alone);
  }

  static void step(ProbeRun& run, nn::RoutingTap& tap) {
    run.train_step().set_tap(&tap);
    run.step();
    run.train_step().set_tap(nullptr);
  }

  void compare_samples_and_routing() {
    std::vector<std::int32_t> samples = layout_.samples();
    world_.all_reduce(samples, comm::ReduceOp::max);
    if (!world_.is_root()) return;
    report_.same_samples = samples == alone_->run.samples();
    report_.choices = reference_.written();
    report_.routing = reference_.differences(chosen_);
    report_.loss[0] = alone_->run.loss();
    report_.loss[1] = layout_.loss();
    report_.grad_norm[0] = alone_->run.grad_norm();
    report_.grad_norm[1] = layout_.grad_norm();
    if (!is_fp32()) report_.near_tie = kNearTieHalf;
    report_.allowed_loss = is_fp32() ? kLossFp32 : kLossHalf;
  }

  [[nodiscard]] bool is_fp32() const { return config_.training.precision == "fp32"; }

  void compare_gradients() {
    if (is_fp32()) return compare_fp32();
    compare_low_precision();
  }

  /// With the routing of one rank where the layout chose otherwise.
  void compare_fp32() {
    auto differ = static_cast<std::int64_t>(report_.routing.size());
    differ = world_.all_reduce_value(differ, comm::ReduceOp::max);
    if (differ > 0) replay(layout_);
    const GlobalTensors mine = layout_.gradients();
    if (!world_.is_root()) return;
    const GlobalTensors reference = alone_->run.gradients();
    const double allowed = options_.tolerance > 0.0 ? options_.tolerance : kTolerance;
    for (ParameterDeviation& p : report_.parameters) {
      p.norm = norm(reference.at(p.name));
      p.deviation = deviation(mine.at(p.name), reference.at(p.name));
      p.allowed = allowed;
    }
  }

  /// Layout and one rank, both with the routing of one rank in fp32, against that rank.
  void compare_low_precision() {
    GlobalTensors reference, one;
    if (world_.is_root()) {
      RunConfig exact = one_rank(config_, layout_.shape());
      exact.training.precision = "fp32";
      Alone fp32{exact};
      RoutingRecorder watch{reference_};
      step(fp32.run, watch);
      reference = fp32.run.gradients();
      RoutingReplay again{reference_};
      alone_->run.start();
      step(alone_->run, again);
      one = alone_->run.gradients();
    }
    replay(layout_);
    const GlobalTensors mine = layout_.gradients();
    if (!world_.is_root()) return;
    const double scale =
        config_.training.precision == "fp16" ? config_.optim.initial_loss_scale : 1.0;
    for (auto& [name, values] : reference) {
      for (float& v : values) v = static_cast<float>(static_cast<double>(v) * scale);
    }
    const auto lost = lost_by_one(one, reference);
    for (ParameterDeviation& p : report_.parameters) {
      const std::vector<float>& exact = reference.at(p.name);
      p.norm = norm(exact);
      p.deviation = deviation(mine.at(p.name), exact);
      p.allowed = options_.tolerance > 0.0 ? options_.tolerance
                                           : kLowPrecision * lost.at(p.name) + kTolerance;
    }
  }

  /// What one rank loses in each gradient. A few elements are a poor sample of it: those of the
  /// same kind in all layers then count together, by the largest.
  [[nodiscard]] static std::map<std::string, double> lost_by_one(const GlobalTensors& one,
                                                                 const GlobalTensors& exact) {
    std::map<std::string, double> lost, kinds;
    for (const auto& [name, values] : one) {
      lost[name] = deviation(values, exact.at(name));
      double& largest = kinds[kind_of(name)];
      largest = std::max(largest, lost[name]);
    }
    for (auto& [name, value] : lost) {
      if (one.at(name).size() < kFewElements) value = kinds[kind_of(name)];
    }
    return lost;
  }

  void replay(ProbeRun& run) {
    reference_.broadcast(world_);
    report_.replayed = true;
    RoutingReplay tap{reference_};
    run.start();
    plant(options_.fault, run);
    step(run, tap);
  }

  RunConfig config_;
  const Communicator& world_;
  VerifyOptions options_;
  parallel::ProcessGroups groups_;
  comm::CollectivesFactory factory_;
  ProbeRun layout_;
  std::unique_ptr<Alone> alone_;
  std::int64_t tokens_;
  RoutingTable chosen_, reference_;
  VerifyReport report_;
};

}  // namespace

VerifyReport verify_layout(const RunConfig& config, const Communicator& world,
                           const VerifyOptions& options) {
  RunConfig known = config;
  if (known.model.vocab_size == 0) resolve_vocab(known);
  VerifyReport report = Verifier{known, world, options}.run();
  return report;
}

}  // namespace shoal::train
