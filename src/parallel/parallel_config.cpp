#include "shoal/parallel/parallel_config.hpp"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "shoal/base/error.hpp"

namespace shoal::parallel {
namespace {

int model_ranks(const ParallelConfig& c) {
  return c.tp * c.pp * c.cp;
}

/// Collects problems of one section.
class Checks {
 public:
  explicit Checks(std::vector<std::string>& problems) : problems_{problems} {}
  void add(const std::string& text) { problems_.push_back("parallel." + text); }
  void at_least_one(const char* key, int value) {
    if (value < 1) add(std::string{key} + " = " + std::to_string(value) + ": at least 1");
  }
  void one_of(const char* key, const std::string& value,
              std::initializer_list<std::string_view> allowed) {
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
    std::string text = std::string{key} + " = " + value + ": allowed:";
    for (const std::string_view a : allowed) text += " " + std::string{a};
    add(text);
  }

 private:
  std::vector<std::string>& problems_;
};

void check_schedule(const ParallelConfig& c, Checks& checks) {
  checks.one_of("schedule", c.schedule, {"gpipe", "1f1b", "interleaved", "zb-h1", "zbv"});
  const bool single = c.schedule == "gpipe" || c.schedule == "1f1b" || c.schedule == "zb-h1";
  if (single && c.chunks != 1) {
    checks.add("chunks = " + std::to_string(c.chunks) + ": " + c.schedule + " has 1 chunk a rank");
  }
  if (c.schedule == "interleaved" && c.pp > 1 && c.chunks < 2) {
    checks.add("chunks = " + std::to_string(c.chunks) + ": interleaved needs at least 2");
  }
  if (c.schedule == "zbv" && c.pp > 1 && c.chunks != 2) {
    checks.add("chunks = " + std::to_string(c.chunks) + ": zbv has 2 chunks a rank");
  }
}

}  // namespace

void validate(const ParallelConfig& config, std::vector<std::string>& problems) {
  Checks checks{problems};
  checks.at_least_one("tp", config.tp);
  checks.at_least_one("pp", config.pp);
  checks.at_least_one("ep", config.ep);
  checks.at_least_one("chunks", config.chunks);
  if (config.cp != 1) {
    checks.add("cp = " + std::to_string(config.cp) +
               ": this version has no context parallelism; allowed: 1");
  }
  check_schedule(config, checks);
  checks.one_of("grad_reduce", config.grad_reduce, {"fp32", "bf16"});
  checks.one_of("comm", config.comm, {"auto", "nccl", "mpi"});
  if (config.bucket_elements < 1) checks.add("bucket_elements: at least 1");
  if (config.ep_buffer_factor != 0.0 && config.ep_buffer_factor < 1.0) {
    checks.add("ep_buffer_factor: 0 (worst case) or at least 1");
  }
  if (!(config.timeout_s > 0.0)) checks.add("timeout_s: must be positive");
}

void validate(const ParallelConfig& config, int ranks, std::vector<std::string>& problems) {
  validate(config, problems);
  if (config.tp < 1 || config.pp < 1 || config.cp < 1 || config.ep < 1) return;
  if (ranks % model_ranks(config) != 0) {
    problems.push_back("-np " + std::to_string(ranks) +
                       " does not fit the layout: parallel.tp x pp x cp = " +
                       std::to_string(model_ranks(config)) + " must divide the number of ranks");
    return;
  }
  const int stage_ranks = ranks / config.pp;
  if (stage_ranks % config.ep != 0) {
    problems.push_back("parallel.ep = " + std::to_string(config.ep) +
                       ": must divide dp x tp = " + std::to_string(stage_ranks));
  }
}

Layout make_layout(const ParallelConfig& config, int ranks) {
  std::vector<std::string> problems;
  validate(config, ranks, problems);
  require(problems.empty(), problems.empty() ? "" : problems.front());
  const int dp = ranks / model_ranks(config);
  return {.dense = RankGrid{{{"pp", config.pp}, {"dp", dp}, {"cp", config.cp}, {"tp", config.tp}}},
          .expert = RankGrid{
              {{"pp", config.pp}, {"edp", dp * config.tp / config.ep}, {"ep", config.ep}}}};
}

}  // namespace shoal::parallel
