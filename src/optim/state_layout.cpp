#include "shoal/optim/state_layout.hpp"

#include <algorithm>

#include "shoal/base/math.hpp"
#include "shoal/nn/parameter_runs.hpp"

namespace shoal::optim {
namespace {

constexpr std::int64_t kAlign = 16;  // elements: blocks start at 16-byte multiples of any dtype

bool follows(const ops::UpdateSegment& a, const ops::UpdateSegment& b, bool keyed) {
  if (a.value + a.count != b.value || a.state + a.count != b.state || a.decay != b.decay) {
    return false;
  }
  return !keyed || (a.stream == b.stream && a.first + a.count == b.first);
}

void append(std::vector<ops::UpdateSegment>& segments, const ops::UpdateSegment& next, bool keyed) {
  if (!segments.empty() && follows(segments.back(), next, keyed)) {
    segments.back().count += next.count;
  } else {
    segments.push_back(next);
  }
}

/// Segments of the elements that one storage run holds.
void append_run(std::vector<ops::UpdateSegment>& segments, const nn::Parameter& p,
                const StateBlock& block, const nn::StorageRun& run, bool keyed) {
  const std::uint32_t stream = rounding_stream(p.spec.name);
  for (std::int64_t at = run.local; at < run.local + run.count;) {
    const nn::GlobalRun global = nn::global_run(p.spec, at);
    const std::int64_t left = run.local + run.count - at;
    const std::int64_t count = keyed ? std::min(global.count, left) : left;
    append(segments,
           {.value = run.offset + at - run.local,
            .state = block.offset + at - block.first,
            .count = count,
            .first = global.global,
            .stream = stream,
            .decay = p.spec.decay ? 1 : 0},
           keyed);
    at += count;
  }
}

}  // namespace

std::uint32_t rounding_stream(std::string_view name) {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

StateLayout make_state_layout(const parallel::ShardPlan& plan, bool keyed) {
  StateLayout out;
  for (const parallel::RowShard& shard : plan.shards()) {
    const nn::Parameter& p = plan.layout().parameters()[static_cast<std::size_t>(shard.parameter)];
    const bool keep_f32 = p.spec.keep_f32;
    std::int64_t& end = keep_f32 ? out.f32_count : out.elem_count;
    const StateBlock block{.keep_f32 = keep_f32,
                           .first = shard.first_element(),
                           .count = shard.held_elements(),
                           .offset = end};
    end = round_up(end + block.count, kAlign);
    out.blocks.push_back(block);
    const std::int64_t base = plan.layout().gradient_base(keep_f32);
    for (const nn::StorageRun& run : nn::storage_runs(p.storage, block.first, block.count)) {
      append_run(keep_f32 ? out.f32 : out.elem, p, block, run, keyed);
      if (shard.counted) out.counted.push_back({.first = base + run.offset, .count = run.count});
    }
    out.counts_all = out.counts_all && shard.counted && block.count == shard.elements();
  }
  std::sort(out.counted.begin(), out.counted.end(),
            [](const ops::SumRun& a, const ops::SumRun& b) { return a.first < b.first; });
  return out;
}

}  // namespace shoal::optim
