#include <algorithm>
#include <vector>

#include "shoal/base/philox.hpp"
#include "shoal/nn/parameter_runs.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::nn {
namespace {

/// Calls body(local, run) for the runs that cover local elements [first, first + count).
template <class Body>
void for_each_run(const ParameterSpec& spec, std::int64_t first, std::int64_t count,
                  const Body& body) {
  for (std::int64_t at = first; at < first + count;) {
    GlobalRun run = global_run(spec, at);
    run.count = std::min(run.count, first + count - at);
    body(at, run);
    at += run.count;
  }
}

}  // namespace

void fill_initial(const Exec& exec, const ParameterSpec& spec, std::uint64_t seed,
                  std::int64_t first, const TensorView& values) {
  if (spec.init.kind == Initializer::Kind::constant) {
    const std::vector<float> host(static_cast<std::size_t>(values.elements()), spec.init.value);
    upload_values(exec, values, host);
    return;
  }
  for_each_run(spec, first, values.elements(), [&](std::int64_t local, const GlobalRun& run) {
    ops::fill_normal(exec, {.y = values.rows(local - first, run.count),
                            .seed = seed,
                            .stream = spec.stream,
                            .first = run.global,
                            .std = spec.init.value});
  });
}

std::vector<float> initial_values(const ParameterSpec& spec, std::uint64_t seed, std::int64_t first,
                                  std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count), spec.init.value);
  if (spec.init.kind == Initializer::Kind::constant) return values;
  for_each_run(spec, first, count, [&](std::int64_t local, const GlobalRun& run) {
    float* out = values.data() + (local - first);
    for (std::int64_t i = 0; i < run.count; ++i) {
      const auto index = static_cast<std::uint64_t>(run.global + i);
      out[i] = spec.init.value *
               philox::normal(philox::block(seed, philox::Purpose::weights, index, spec.stream));
    }
  });
  return values;
}

void fill_initial(const Exec& exec, const ParameterLayout& layout, const InitialWindow& window) {
  zero(exec, window.values);
  if (exec.is_dry()) return;
  const std::int64_t begin = window.first, end = window.first + window.values.elements();
  for (const Parameter& parameter : layout.parameters()) {
    const StorageMap& map = parameter.storage;
    if (parameter.spec.keep_f32 != window.keep_f32) continue;
    for (std::int64_t part = 0; part < map.parts; ++part) {
      const std::int64_t offset = map.offset + part * map.stride;
      const std::int64_t from = std::max(offset, begin), to = std::min(offset + map.inner, end);
      if (from >= to) continue;
      fill_initial(exec, parameter.spec, window.seed, part * map.inner + from - offset,
                   window.values.rows(from - begin, to - from));
    }
  }
}

void initialise(const Exec& exec, const ParameterStore& store, std::uint64_t seed) {
  fill_initial(exec, store.layout(),
               {.values = store.elem_values(), .first = 0, .keep_f32 = false, .seed = seed});
  fill_initial(exec, store.layout(),
               {.values = store.f32_values(), .first = 0, .keep_f32 = true, .seed = seed});
}

}  // namespace shoal::nn
