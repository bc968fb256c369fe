#include "shoal/parallel/gradient_reducer.hpp"

#include <algorithm>

#include "shoal/base/error.hpp"

namespace shoal::parallel {
namespace {

TensorView upload_table(const Exec& exec, const std::vector<ops::PackedRun>& runs) {
  const auto bytes = static_cast<std::int64_t>(runs.size() * sizeof(ops::PackedRun));
  const TensorView table = persistent(exec, {bytes}, DType::u8, MemoryKind::state);
  if (exec.is_dry()) return table;
  upload(exec, table.bytes_begin(), runs.data(), bytes);
  exec.synchronize();
  return table;
}

std::int64_t elements_of(const std::vector<ops::PackedRun>& runs) {
  std::int64_t elements = 0;
  for (const ops::PackedRun& run : runs) elements += run.count;
  return elements;
}

}  // namespace

GradientReducer::GradientReducer(const Exec& exec, const Parts& parts)
    : store_{parts.store},
      options_{parts.options},
      buckets_{make_buckets(*parts.plan, parts.options.bucket_elements)} {
  expect(options_.wire == DType::f32 || options_.wire == DType::bf16,
         "gradients travel as f32 or bf16");
  int tensors = 0;
  for (const nn::Parameter& p : store_->layout().parameters()) {
    tensors = std::max(tensors, p.tensor + 1);
  }
  final_.assign(static_cast<std::size_t>(tensors), 0);
  for (const Bucket& bucket : buckets_) tables_.push_back(make_tables(exec, *parts.plan, bucket));
  for (const RowShard& shard : parts.plan->shards()) {
    if (!shard.tied || parts.plan->tied_ranks() == 1) continue;
    const nn::Parameter& p =
        store_->layout().parameters()[static_cast<std::size_t>(shard.parameter)];
    expect(p.storage.parts == 1, p.spec.name + ": a tied table lies in one piece");
    tied_.push_back(gradients(p.spec.keep_f32).rows(p.storage.offset, p.storage.elements()));
  }
  make_collectives(parts);
}

void GradientReducer::make_collectives(const Parts& parts) {
  const ProcessGroups& groups = *parts.groups;
  const comm::CollectivesFactory& factory = *parts.factory;
  groups_[static_cast<std::size_t>(ReplicaGroup::dp)] = factory.make(groups.dp());
  groups_[static_cast<std::size_t>(ReplicaGroup::stage)] = factory.make(groups.stage());
  groups_[static_cast<std::size_t>(ReplicaGroup::edp)] = factory.make(groups.edp());
  tied_group_ = factory.make(groups.tied());
  world_ = factory.make(groups.world());
}

bool GradientReducer::capturable() const {
  const auto capturable = [](const auto& group) { return group->capturable(); };
  return std::all_of(groups_.begin(), groups_.end(), capturable) && capturable(tied_group_) &&
         capturable(world_);
}

GradientReducer::Tables GradientReducer::make_tables(const Exec& exec, const ShardPlan& plan,
                                                     const Bucket& bucket) {
  const Member mine =
      plan.shards()[static_cast<std::size_t>(bucket.parts.front().parameter)].member;
  const auto all = bucket_runs(plan, bucket, 0, bucket.blocks);
  Tables tables{.all = upload_table(exec, ops::cut_runs(all)),
                .own = {},
                .padded = elements_of(all) < bucket.elements(),
                .tensors = {}};
  if (bucket.blocks > 1) {
    tables.own = upload_table(exec, ops::cut_runs(bucket_runs(plan, bucket, mine.rank, 1)));
  }
  for (const BucketPart& part : bucket.parts) {
    const auto index = static_cast<std::size_t>(part.parameter);
    tables.tensors.push_back(store_->layout().parameters()[index].tensor);
  }
  return tables;
}

TensorView GradientReducer::gradients(bool keep_f32) const {
  const nn::ParameterLayout& layout = store_->layout();
  return store_->gradients().rows(layout.gradient_base(keep_f32),
                                  keep_f32 ? layout.f32_count() : layout.elem_count());
}

TensorView GradientReducer::values(bool keep_f32) const {
  return keep_f32 ? store_->f32_values() : store_->elem_values();
}

void GradientReducer::begin_step() {
  next_ = 0;
  std::fill(final_.begin(), final_.end(), 0);
}

bool GradientReducer::is_ready(std::size_t bucket) const {
  const std::vector<int>& tensors = tables_[bucket].tensors;
  return !buckets_[bucket].tied && std::all_of(tensors.begin(), tensors.end(), [this](int t) {
    return final_[static_cast<std::size_t>(t)] != 0;
  });
}

void GradientReducer::ready(const Exec& exec, nn::ParameterLayout::Handle first,
                            nn::ParameterLayout::Handle last) {
  std::fill(final_.begin() + first, final_.begin() + last, 1);
  if (!options_.eager) return;
  while (next_ < buckets_.size() && is_ready(next_)) reduce(exec, next_++);
}

void GradientReducer::finish(const Exec& exec) {
  sum_tied(exec);
  while (next_ < buckets_.size()) reduce(exec, next_++);
}

void GradientReducer::sum_tied(const Exec& exec) const {
  for (const TensorView& table : tied_) {
    for (std::int64_t at = 0; at < table.elements(); at += options_.bucket_elements) {
      const std::int64_t n = std::min(options_.bucket_elements, table.elements() - at);
      tied_group_->all_reduce(exec, table.rows(at, n), comm::ReduceOp::sum);
    }
  }
}

void GradientReducer::reduce(const Exec& exec, std::size_t index) const {
  const ScratchScope scope{exec};
  const Bucket& bucket = buckets_[index];
  const Tables& tables = tables_[index];
  comm::TensorCollectives* group = groups_[static_cast<std::size_t>(bucket.group)].get();
  const TensorView flat = gradients(bucket.keep_f32);
  const TensorView all = scratch(exec, {bucket.elements()}, options_.wire);
  if (tables.padded) zero(exec, all);
  ops::pack_runs(exec, {.to = all, .from = flat, .runs = tables.all});
  if (bucket.blocks == 1) {
    group->all_reduce(exec, all, comm::ReduceOp::sum);
    return ops::unpack_runs(exec, {.to = flat, .from = all, .runs = tables.all});
  }
  const TensorView own = scratch(exec, {bucket.block}, options_.wire);
  group->reduce_scatter(exec, {.send = all, .recv = own});
  ops::unpack_runs(exec, {.to = flat, .from = own, .runs = tables.own});
}

void GradientReducer::gather_weights(const Exec& exec) const {
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i].blocks > 1) gather(exec, i);
  }
}

void GradientReducer::gather(const Exec& exec, std::size_t index) const {
  const ScratchScope scope{exec};
  const Bucket& bucket = buckets_[index];
  const Tables& tables = tables_[index];
  comm::TensorCollectives* group = groups_[static_cast<std::size_t>(bucket.group)].get();
  const TensorView flat = values(bucket.keep_f32);
  const TensorView own = scratch(exec, {bucket.block}, flat.dtype());
  const TensorView all = scratch(exec, {bucket.elements()}, flat.dtype());
  if (tables.padded) zero(exec, own);
  ops::pack_runs(exec, {.to = own, .from = flat, .runs = tables.own});
  group->all_gather(exec, {.send = own, .recv = all});
  ops::unpack_runs(exec, {.to = flat, .from = all, .runs = tables.all});
}

void GradientReducer::sum_totals(const Exec& exec, const TensorView& x) const {
  world_->all_reduce(exec, x.reshape({x.elements()}), comm::ReduceOp::sum);
}

}  // namespace shoal::parallel
