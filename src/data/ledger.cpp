#include "shoal/base/error.hpp"
#include "shoal/data/sampler.hpp"

namespace shoal::data {
namespace {

[[nodiscard]] io::Json to_json(const SourceState& s) {
  return {{"name", s.name},        {"fingerprint", s.fingerprint}, {"num_tokens", s.num_tokens},
          {"epoch", s.epoch},      {"window", s.window},           {"offset", s.offset},
          {"consumed", s.consumed}};
}

[[nodiscard]] SourceState source_from_json(const io::Json& json, std::string_view what) {
  SourceState s{.name = io::get_field<std::string>(json, "name", what),
                .fingerprint = io::get_field<std::string>(json, "fingerprint", what),
                .num_tokens = io::get_field<std::int64_t>(json, "num_tokens", what),
                .epoch = io::get_field<std::int64_t>(json, "epoch", what),
                .window = io::get_field<std::int64_t>(json, "window", what),
                .offset = io::get_field<std::int64_t>(json, "offset", what),
                .consumed = io::get_field<std::int64_t>(json, "consumed", what)};
  const bool counts = s.epoch >= 0 && s.offset >= 0 && s.consumed >= 0 && s.window >= 0;
  const bool inside = s.window == 0 ? s.offset == 0
                                    : s.window < s.num_tokens &&
                                          s.offset < (s.num_tokens - 1) / s.window * s.window;
  require(counts && inside, std::string{what} + ": source " + s.name + " has impossible counters");
  return s;
}

}  // namespace

io::Json to_json(const Ledger& ledger) {
  io::Json sources = io::Json::array(), log = io::Json::array();
  for (const SourceState& s : ledger.sources) sources.push_back(to_json(s));
  for (const WeightChange& change : ledger.weight_log) {
    log.push_back({{"position", change.position}, {"weights", change.weights}});
  }
  return {{"seed", ledger.seed},
          {"position", ledger.position},
          {"sources", sources},
          {"weight_log", log}};
}

Ledger ledger_from_json(const io::Json& json, std::string_view what) {
  Ledger ledger{.seed = io::get_field<std::uint64_t>(json, "seed", what),
                .position = io::get_field<std::int64_t>(json, "position", what)};
  for (const auto& entry : io::get_field<io::Json::array_t>(json, "sources", what)) {
    ledger.sources.push_back(source_from_json(entry, what));
  }
  for (const auto& entry : io::get_field<io::Json::array_t>(json, "weight_log", what)) {
    ledger.weight_log.push_back({io::get_field<std::int64_t>(entry, "position", what),
                                 io::get_field<std::vector<double>>(entry, "weights", what)});
  }
  require(ledger.position >= 0, std::string{what} + ": the ledger's position is negative");
  return ledger;
}

}  // namespace shoal::data
