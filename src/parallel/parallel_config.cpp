#include "shoal/parallel/parallel_config.hpp"

#include "shoal/base/error.hpp"

namespace shoal::parallel {
namespace {

int model_ranks(const ParallelConfig& c) {
  return c.tp * c.pp * c.cp;
}

}  // namespace

void validate(const ParallelConfig& config, std::vector<std::string>& problems) {
  const auto only_one = [&problems](const char* key, int value) {
    if (value == 1) return;
    problems.push_back(std::string{"parallel."} + key + " = " + std::to_string(value) +
                       ": this version runs data parallelism only; allowed: 1");
  };
  only_one("tp", config.tp);
  only_one("pp", config.pp);
  only_one("cp", config.cp);
  only_one("ep", config.ep);
}

void validate(const ParallelConfig& config, int ranks, std::vector<std::string>& problems) {
  validate(config, problems);
  if (config.tp < 1 || config.pp < 1 || config.cp < 1 || config.ep < 1) return;
  if (ranks % model_ranks(config) == 0) return;
  problems.push_back("-np " + std::to_string(ranks) +
                     " does not fit the layout: parallel.tp x pp x cp = " +
                     std::to_string(model_ranks(config)) + " must divide the number of ranks");
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
