#include "shoal/parallel/gradient_buckets.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "shoal/base/math.hpp"
#include "shoal/nn/parameter_runs.hpp"

namespace shoal::parallel {
namespace {

constexpr std::int64_t kAlign = 4;  // elements that kernels move at once

/// Fills one bucket for each kind of parameter at a time.
class Packer {
 public:
  Packer(const ShardPlan& plan, std::int64_t max_elements)
      : plan_{plan}, max_elements_{max_elements} {}

  void add(const RowShard& shard) {
    const nn::Parameter& p = parameter(shard);
    const Key key{shard.group, p.spec.keep_f32, shard.tied};
    const std::int64_t capacity = max_elements_ / shard.blocks;
    for (std::int64_t at = 0; at < shard.padded_rows();) {
      Bucket& bucket = open(key, shard);
      const std::int64_t free = capacity - bucket.block;
      std::int64_t rows = std::max<std::int64_t>(free, 0) / shard.row_elements;
      if (rows == 0 && !bucket.parts.empty()) {
        close(key);
        continue;
      }
      rows = std::min(std::max<std::int64_t>(rows, 1), shard.padded_rows() - at);
      bucket.parts.push_back(
          {.parameter = shard.parameter, .first_row = at, .rows = rows, .offset = bucket.block});
      bucket.block = round_up(bucket.block + rows * shard.row_elements, kAlign);
      bucket.first_tensor = p.tensor;
      at += rows;
    }
  }

  [[nodiscard]] std::vector<Bucket> finish() {
    for (auto& [key, bucket] : open_) done_.push_back(std::move(bucket));
    std::stable_sort(done_.begin(), done_.end(), [](const Bucket& a, const Bucket& b) {
      return std::tuple{a.tied, -a.first_tensor} < std::tuple{b.tied, -b.first_tensor};
    });
    return std::move(done_);
  }

 private:
  using Key = std::tuple<ReplicaGroup, bool, bool>;

  [[nodiscard]] const nn::Parameter& parameter(const RowShard& shard) const {
    return plan_.layout().parameters()[static_cast<std::size_t>(shard.parameter)];
  }
  Bucket& open(const Key& key, const RowShard& shard) {
    return open_
        .try_emplace(key, Bucket{.group = shard.group,
                                 .blocks = shard.blocks,
                                 .ranks = shard.member.size,
                                 .keep_f32 = std::get<1>(key),
                                 .tied = shard.tied})
        .first->second;
  }
  void close(const Key& key) {
    const auto found = open_.find(key);
    done_.push_back(std::move(found->second));
    open_.erase(found);
  }

  const ShardPlan& plan_;
  std::int64_t max_elements_;
  std::map<Key, Bucket> open_;
  std::vector<Bucket> done_;
};

std::int64_t tied_bytes(const ShardPlan& plan) {
  std::int64_t elements = 0;
  for (const RowShard& s : plan.shards()) elements += s.tied ? s.elements() : 0;
  return plan.tied_ranks() > 1 ? elements * size_of(DType::f32) : 0;
}

}  // namespace

ReduceOptions reduce_options(const ParallelConfig& config) {
  return {.wire = config.grad_reduce == "bf16" ? DType::bf16 : DType::f32,
          .bucket_elements = config.bucket_elements,
          .overlap = config.overlap,
          .overlap_nccl = config.overlap_nccl};
}

std::vector<Bucket> make_buckets(const ShardPlan& plan, std::int64_t max_elements) {
  Packer packer{plan, max_elements};
  for (std::size_t i = plan.shards().size(); i-- > 0;) {
    const RowShard& shard = plan.shards()[i];
    if (shard.member.size > 1 && shard.elements() > 0) packer.add(shard);
  }
  return packer.finish();
}

std::vector<ops::PackedRun> bucket_runs(const ShardPlan& plan, const Bucket& bucket,
                                        int first_block, int blocks) {
  std::vector<ops::PackedRun> runs;
  for (int b = first_block; b < first_block + blocks; ++b) {
    for (const BucketPart& part : bucket.parts) {
      const auto index = static_cast<std::size_t>(part.parameter);
      const RowShard& shard = plan.shards()[index];
      const RowRange all = row_block(shard.rows, shard.blocks, b);
      const std::int64_t rows = std::min(part.rows, all.count - part.first_row);
      if (rows <= 0) continue;
      const std::int64_t first = (all.first + part.first_row) * shard.row_elements;
      const std::int64_t packed = (b - first_block) * bucket.block + part.offset - first;
      for (const nn::StorageRun& run : nn::storage_runs(plan.layout().parameters()[index].storage,
                                                        first, rows * shard.row_elements)) {
        runs.push_back({.flat = run.offset, .packed = packed + run.local, .count = run.count});
      }
    }
  }
  return runs;
}

ReduceTraffic reduce_traffic(const ShardPlan& plan, const ReduceOptions& options, DType elem) {
  ReduceTraffic out{.all_reduce = tied_bytes(plan)};
  out.sent = static_cast<double>(out.all_reduce);  // two ranks: 2 (n - 1) / n = 1
  for (const Bucket& bucket : make_buckets(plan, options.bucket_elements)) {
    const std::int64_t gradients = bucket.elements() * size_of(options.wire);
    const double share = static_cast<double>(bucket.ranks - 1) / bucket.ranks;
    if (!plan.zero()) {
      out.all_reduce += gradients;
      out.sent += 2.0 * share * static_cast<double>(gradients);
      continue;
    }
    const std::int64_t weights = bucket.block * size_of(bucket.keep_f32 ? DType::f32 : elem);
    out.reduce_scatter += gradients;
    out.all_gather += weights;
    out.sent += share * static_cast<double>(gradients) +
                static_cast<double>(bucket.ranks - 1) * static_cast<double>(weights);
  }
  return out;
}

}  // namespace shoal::parallel
