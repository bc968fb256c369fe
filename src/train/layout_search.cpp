#include "shoal/train/layout_search.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "shoal/train/plan.hpp"
#include "train/memory_estimate.hpp"

namespace shoal::train {
namespace {

/// Estimates may be this much too high before a layout is dropped without counting.
constexpr double kEstimateSlack = 1.15;
constexpr std::size_t kExecuted = 60;  ///< candidates whose schedule is executed

struct Recompute {
  const char* attention;
  const char* mlp;
};
/// From the fastest to the leanest.
constexpr std::array kRecompute = {Recompute{"none", "none"}, Recompute{"selective", "selective"},
                                   Recompute{"none", "full"}, Recompute{"selective", "full"},
                                   Recompute{"full", "full"}};

bool tensor_parallel_fits(const nn::ModelConfig& m, int tp) {
  const bool dense = m.num_experts == 1 || m.first_k_dense_replace > 0;
  return m.num_key_value_heads % tp == 0 && m.vocab_size % tp == 0 &&
         (!dense || m.intermediate_size % tp == 0) &&
         (m.n_shared_experts * m.moe_intermediate_size) % tp == 0;
}

std::vector<int> divisors(std::int64_t n) {
  std::vector<int> found;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) found.push_back(d);
  }
  return found;
}

/// Schedules of a pipeline, with their chunks.
std::vector<parallel::ParallelConfig> with_schedules(const parallel::ParallelConfig& layout,
                                                     std::int64_t layers) {
  std::vector<parallel::ParallelConfig> all;
  struct Choice {
    const char* schedule;
    int chunks;
  };
  for (const Choice& c : {Choice{"1f1b", 1}, Choice{"interleaved", 2}, Choice{"interleaved", 4},
                          Choice{"zb-h1", 1}, Choice{"zbv", 2}}) {
    if (layout.pp == 1 && c.chunks > 1) continue;
    if (layout.pp == 1 && std::string{c.schedule} != "1f1b") continue;
    if (static_cast<std::int64_t>(layout.pp) * c.chunks > layers) continue;
    all.push_back(layout);
    all.back().schedule = c.schedule;
    all.back().chunks = c.chunks;
  }
  return all;
}

/// The balanced split as a value of parallel.stages: found once for each number of chunks, not for
/// each candidate.
class Splits {
 public:
  explicit Splits(RunConfig config) : config_{std::move(config)} {}
  [[nodiscard]] const std::string& of(const parallel::ParallelConfig& layout) {
    std::string& text = texts_[layout.pp * layout.chunks];
    if (!text.empty()) return text;
    config_.parallel = layout;
    for (const nn::StageRange& range : model_chunks(config_)) {
      text += (text.empty() ? "" : ",") + std::to_string(range.last_layer - range.first_layer);
    }
    return text;
  }

 private:
  RunConfig config_;
  std::map<int, std::string> texts_;
};

/// Sequences of a micro-batch: powers of two, and the whole share.
std::vector<std::int64_t> micro_batches(const RunConfig& config, std::int64_t share, int tp) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = 1; size <= share; size *= 2) {
    if (share % size == 0 && size * config.training.seq_len % tp == 0) sizes.push_back(size);
  }
  return sizes;
}

/// Collects candidates of one layout, schedule and micro-batch: the leanest changes that fit, for
/// more recompute is only slower.
class Collector {
 public:
  Collector(const CostModel& model, const SearchOptions& options)
      : model_{model}, options_{options} {}

  void add(RunConfig config) {
    const auto chunks = model_chunks(config);
    std::vector<double> factors = {config.parallel.ep_buffer_factor};
    constexpr double kTightFactor = 2.0;
    if (config.parallel.ep > 1 && factors.front() == 0.0) factors.push_back(kTightFactor);
    for (const double factor : factors) {
      config.parallel.ep_buffer_factor = factor;
      if (add_leanest(config, chunks)) return;
    }
  }
  [[nodiscard]] std::vector<Candidate> take() { return std::move(found_); }

 private:
  bool add_leanest(RunConfig config, const std::vector<nn::StageRange>& chunks) {
    const auto limit = static_cast<double>(options_.memory_bytes);
    for (const Recompute& mode : kRecompute) {
      config.compute.recompute_attention = mode.attention;
      config.compute.recompute_mlp = mode.mlp;
      const double bytes = estimate_memory(config, options_.gpus, chunks);
      if (bytes > kEstimateSlack * limit) continue;
      found_.push_back({.config = config,
                        .ranks = options_.gpus,
                        .cost = model_.quick_step(config, options_.gpus),
                        .memory = {.bytes = static_cast<std::int64_t>(bytes)}});
      if (bytes <= limit / kEstimateSlack) return true;  // sure to fit
    }
    return false;
  }

  const CostModel& model_;
  const SearchOptions& options_;
  std::vector<Candidate> found_;
};

void sort_by_time(std::vector<Candidate>& all) {
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.cost.seconds < b.cost.seconds;
  });
}

/// The best of each (tp, pp, ep) whose memory fits when it is counted.
std::vector<Candidate> choose(const std::vector<Candidate>& sorted, const SearchOptions& options) {
  std::vector<Candidate> chosen;
  std::set<std::tuple<int, int, int>> taken;
  for (const Candidate& candidate : sorted) {
    const parallel::ParallelConfig& p = candidate.config.parallel;
    const std::tuple key{p.tp, p.pp, p.ep};
    if (taken.contains(key)) continue;
    const MemoryFigure figure = options.memory(candidate.config, candidate.ranks);
    if (figure.bytes > options.memory_bytes) continue;
    taken.insert(key);
    chosen.push_back(candidate);
    chosen.back().memory = figure;
    if (static_cast<int>(chosen.size()) == options.keep) break;
  }
  return chosen;
}

}  // namespace

std::vector<parallel::ParallelConfig> legal_layouts(const RunConfig& config, int gpus,
                                                    int gpus_per_node) {
  const nn::ModelConfig& m = config.model;
  std::vector<parallel::ParallelConfig> layouts;
  for (const int tp : divisors(gpus)) {
    if (tp > gpus_per_node || !tensor_parallel_fits(m, tp)) continue;
    for (const int pp : divisors(gpus / tp)) {
      const int dp = gpus / tp / pp;
      if (pp > m.num_hidden_layers || config.training.global_batch_size % dp != 0) continue;
      for (const int ep : divisors(m.num_experts > 1 ? dp * tp : 1)) {
        if (m.num_experts % ep != 0) continue;
        parallel::ParallelConfig layout = config.parallel;
        layout.tp = tp;
        layout.pp = pp;
        layout.ep = ep;
        layout.schedule = "1f1b";
        layout.chunks = 1;
        layout.stages.clear();
        layouts.push_back(layout);
      }
    }
  }
  return layouts;
}

MemoryFigure predict_memory(const RunConfig& config, int ranks) {
  const int stages = config.parallel.pp;
  RunConfig on_gpu = config;
  on_gpu.training.device = "cuda";
  MemoryFigure figure{.bytes = 0, .counted = true};
  for (int stage = 0; stage < stages; ++stage) {
    const PlanReport report = plan(on_gpu, ranks, stage * (ranks / stages));
    figure.bytes = std::max(figure.bytes, report.memory.total());
  }
  return figure;
}

std::vector<Candidate> search_layouts(const RunConfig& config, const CostModel& model,
                                      const SearchOptions& options) {
  Collector collector{model, options};
  Splits splits{config};
  for (const auto& layout : legal_layouts(config, options.gpus, model.gpus_per_node())) {
    const int dp = options.gpus / (layout.tp * layout.pp);
    const std::int64_t share = config.training.global_batch_size / dp;
    for (const auto& scheduled : with_schedules(layout, config.model.num_hidden_layers)) {
      for (const std::int64_t micro : micro_batches(config, share, layout.tp)) {
        RunConfig candidate = config;
        candidate.parallel = scheduled;
        candidate.parallel.stages = splits.of(scheduled);
        candidate.training.micro_batch_size = micro;
        collector.add(std::move(candidate));
      }
    }
  }
  std::vector<Candidate> all = collector.take();
  sort_by_time(all);
  const std::size_t executed = std::min(all.size(), kExecuted);
  for (std::size_t i = 0; i < executed; ++i) {
    all[i].cost = model.step(all[i].config, options.gpus);
  }
  std::vector<Candidate> best{all.begin(), all.begin() + static_cast<std::ptrdiff_t>(executed)};
  sort_by_time(best);
  std::vector<Candidate> chosen = choose(best, options);
  // Nothing of the fastest fits: count the others too.
  if (chosen.empty()) chosen = choose(all, options);
  for (Candidate& candidate : chosen) candidate.config.parallel.stages.clear();  // the default
  return chosen;
}

std::vector<HardwarePoint> sweep_gpus(const RunConfig& config, const CostModel& model,
                                      const SearchOptions& options) {
  std::vector<HardwarePoint> points;
  SearchOptions one = options;
  one.keep = 1;
  double reference = 0.0;
  for (std::int64_t n = 1; n <= options.gpus; n *= 2) {
    one.gpus = static_cast<int>(n);
    HardwarePoint point{.gpus = one.gpus, .best = search_layouts(config, model, one)};
    if (!point.best.empty()) {
      const double speed = point.best.front().cost.tokens_per_s / point.gpus;
      if (reference == 0.0) reference = speed;
      point.efficiency = speed / reference;
    }
    points.push_back(std::move(point));
  }
  return points;
}

}  // namespace shoal::train
