#include "shoal/parallel/gradient_reducer.hpp"

#include <algorithm>
#include <limits>

#include "shoal/base/error.hpp"

namespace shoal::parallel {

GradientReducer::GradientReducer(const Exec& exec, const Parts& parts)
    : store_{parts.store},
      options_{parts.options},
      buckets_{make_buckets(*parts.plan, parts.options.bucket_elements)} {
  expect(options_.wire == DType::f32 || options_.wire == DType::bf16,
         "gradients travel as f32 or bf16");
  int count = 0;
  for (const nn::Parameter& p : store_->layout().parameters())
    count = std::max(count, p.tensor + 1);
  final_.assign(static_cast<std::size_t>(count), 0);
  for (const Bucket& bucket : buckets_) tensors_.push_back(tensors_of(bucket));
  find_tied(*parts.plan);
  make_collectives(parts);
  const bool posts = options_.overlap && !exec.on_gpu();
  BucketTransfer::Parts transfer{.store = store_,
                                 .plan = parts.plan,
                                 .buckets = &buckets_,
                                 .wire = options_.wire,
                                 .overlap = posts};
  for (std::size_t g = 0; g < groups_.size(); ++g) transfer.groups[g] = groups_[g].get();
  transfer_.emplace(exec, transfer);
  if (options_.overlap_nccl && exec.on_gpu() && !exec.is_dry() && capturable()) side_.emplace(exec);
  eager_ = posts || side_;
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

void GradientReducer::find_tied(const ShardPlan& plan) {
  const nn::ParameterLayout& layout = store_->layout();
  for (const RowShard& shard : plan.shards()) {
    if (!shard.tied || plan.tied_ranks() == 1) continue;
    const nn::Parameter& p = layout.parameters()[static_cast<std::size_t>(shard.parameter)];
    expect(p.storage.parts == 1, p.spec.name + ": a tied table lies in one piece");
    tied_.push_back(store_->gradients().rows(
        layout.gradient_base(p.spec.keep_f32) + p.storage.offset, p.storage.elements()));
  }
}

std::vector<int> GradientReducer::tensors_of(const Bucket& bucket) const {
  std::vector<int> tensors;
  for (const BucketPart& part : bucket.parts) {
    const auto index = static_cast<std::size_t>(part.parameter);
    tensors.push_back(store_->layout().parameters()[index].tensor);
  }
  return tensors;
}

bool GradientReducer::capturable() const {
  const auto capturable = [](const auto& group) { return group->capturable(); };
  return std::all_of(groups_.begin(), groups_.end(), capturable) && capturable(tied_group_) &&
         capturable(world_);
}

void GradientReducer::begin_step() {
  next_ = 0;
  std::fill(final_.begin(), final_.end(), 0);
  transfer_->restart();
}

bool GradientReducer::is_ready(std::size_t bucket) const {
  const std::vector<int>& tensors = tensors_[bucket];
  return !buckets_[bucket].tied && std::all_of(tensors.begin(), tensors.end(), [this](int t) {
    return final_[static_cast<std::size_t>(t)] != 0;
  });
}

void GradientReducer::before_use(const Exec&, nn::TensorRange) {}

void GradientReducer::after_gradients(const Exec& exec, nn::TensorRange tensors) {
  std::fill(final_.begin() + tensors.first, final_.begin() + tensors.last, 1);
  if (!eager_) return;
  if (next_ < buckets_.size() && is_ready(next_)) {
    const Exec& on = beside(exec);
    while (next_ < buckets_.size() && is_ready(next_)) transfer_->reduce(on, next_++);
  }
  transfer_->progress(exec);
}

void GradientReducer::finish(const Exec& exec) {
  overlapped_share_ =
      side_ ? std::numeric_limits<double>::quiet_NaN() : share_of(transfer_->ended());
  const Exec& on = beside(exec);
  sum_tied(on);
  while (next_ < buckets_.size()) transfer_->reduce(on, next_++);
  transfer_->end_all(on);
  rejoin(exec);
}

/// Of all elements of buckets, those of the first ones.
double GradientReducer::share_of(std::size_t buckets) const {
  std::int64_t all = 0, first = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    all += buckets_[i].elements();
    if (i < buckets) first += buckets_[i].elements();
  }
  return all == 0 ? 0.0 : static_cast<double>(first) / static_cast<double>(all);
}

void GradientReducer::sum_tied(const Exec& exec) const {
  for (const TensorView& table : tied_) {
    for (std::int64_t at = 0; at < table.elements(); at += options_.bucket_elements) {
      const std::int64_t n = std::min(options_.bucket_elements, table.elements() - at);
      tied_group_->all_reduce(exec, table.rows(at, n), comm::ReduceOp::sum);
    }
  }
}

void GradientReducer::gather_weights(const Exec& exec) {
  transfer_->restart();
  const Exec& on = beside(exec);
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i].blocks > 1) transfer_->gather(on, i);
  }
  transfer_->end_all(on);
  rejoin(exec);
}

void GradientReducer::sum_totals(const Exec& exec, const TensorView& x) const {
  world_->all_reduce(exec, x.reshape({x.elements()}), comm::ReduceOp::sum);
}

}  // namespace shoal::parallel
