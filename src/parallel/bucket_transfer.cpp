#include "shoal/parallel/bucket_transfer.hpp"

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

/// The first elements of a slot's bytes.
TensorView view_of(const TensorView& bytes, std::int64_t elements, DType dtype) {
  return {bytes.bytes_begin(), {elements}, dtype};
}

}  // namespace

BucketTransfer::BucketTransfer(const Exec& exec, const Parts& parts) : parts_{parts} {
  for (const Bucket& bucket : *parts_.buckets) tables_.push_back(make_tables(exec, bucket));
  const std::size_t count = parts_.overlap ? kSlots : 1;
  for (std::size_t i = 0; i < count; ++i) slots_.push_back(make_slot(exec));
}

BucketTransfer::Tables BucketTransfer::make_tables(const Exec& exec, const Bucket& bucket) const {
  const ShardPlan& plan = *parts_.plan;
  const Member mine =
      plan.shards()[static_cast<std::size_t>(bucket.parts.front().parameter)].member;
  const auto all = bucket_runs(plan, bucket, 0, bucket.blocks);
  Tables tables{.all = upload_table(exec, ops::cut_runs(all)),
                .own = {},
                .padded = elements_of(all) < bucket.elements()};
  if (bucket.blocks > 1) {
    tables.own = upload_table(exec, ops::cut_runs(bucket_runs(plan, bucket, mine.rank, 1)));
  }
  return tables;
}

/// Room for the largest bucket of gradients or weights.
BucketTransfer::Slot BucketTransfer::make_slot(const Exec& exec) const {
  std::int64_t all = 0, own = 0, arrivals = 0;
  for (const Bucket& bucket : *parts_.buckets) {
    const std::int64_t wire = size_of(parts_.wire);
    const std::int64_t width = std::max(wire, size_of(weights(bucket.keep_f32).dtype()));
    all = std::max(all, bucket.elements() * width);
    own = std::max(own, bucket.block * width);
    arrivals =
        std::max(arrivals, Communicator::posted_workspace(bucket.elements() * wire, bucket.ranks));
  }
  const auto take = [&exec](std::int64_t bytes) {
    return persistent(exec, {bytes}, DType::u8, MemoryKind::state);
  };
  Slot made{.all = take(all), .own = take(own), .arrivals = {}, .posted = nullptr};
  if (parts_.overlap) made.arrivals = take(arrivals);
  return made;
}

TensorView BucketTransfer::gradients(bool keep_f32) const {
  const nn::ParameterLayout& layout = parts_.store->layout();
  return parts_.store->gradients().rows(layout.gradient_base(keep_f32),
                                        keep_f32 ? layout.f32_count() : layout.elem_count());
}

TensorView BucketTransfer::weights(bool keep_f32) const {
  return keep_f32 ? parts_.store->f32_values() : parts_.store->elem_values();
}

void BucketTransfer::restart() {
  expect(begun_ == ended_, "a transfer is under way");
  begun_ = ended_ = 0;
}

void BucketTransfer::begin(const Exec& exec, std::size_t bucket, Kind kind) {
  if (full()) end_oldest(exec);
  Slot& next = slot(begun_++);
  next.bucket = bucket;
  next.kind = kind;
  next.posted = kind == Kind::reduce ? post_reduce(exec, next) : post_gather(exec, next);
  if (next.posted == nullptr) end_all(exec);
}

void BucketTransfer::progress(const Exec& exec) {
  while (ended_ < begun_ && slot(ended_).posted->progress()) end_oldest(exec);
}

void BucketTransfer::end(const Exec& exec, std::size_t count) {
  while (ended_ < count) end_oldest(exec);
}

void BucketTransfer::end_oldest(const Exec& exec) {
  Slot& oldest = slot(ended_++);
  if (oldest.posted != nullptr) oldest.posted->wait();
  oldest.posted.reset();
  unpack(exec, oldest);
}

comm::TensorCollectives::Posted BucketTransfer::post_reduce(const Exec& exec, const Slot& slot) {
  const Bucket& bucket = bucket_of(slot);
  const Tables& tables = tables_[slot.bucket];
  const TensorView all = view_of(slot.all, bucket.elements(), parts_.wire);
  if (tables.padded) zero(exec, all);
  ops::pack_runs(exec, {.to = all, .from = gradients(bucket.keep_f32), .runs = tables.all});
  comm::TensorCollectives& group = group_of(slot);
  if (bucket.blocks == 1) {
    if (parts_.overlap) {
      return group.post_all_reduce(exec, all, comm::ReduceOp::sum, slot.arrivals);
    }
    group.all_reduce(exec, all, comm::ReduceOp::sum);
    return nullptr;
  }
  const comm::ReduceScatter args{.send = all, .recv = view_of(slot.own, bucket.block, parts_.wire)};
  if (parts_.overlap) return group.post_reduce_scatter(exec, args, slot.arrivals);
  group.reduce_scatter(exec, args);
  return nullptr;
}

comm::TensorCollectives::Posted BucketTransfer::post_gather(const Exec& exec, const Slot& slot) {
  const Bucket& bucket = bucket_of(slot);
  const Tables& tables = tables_[slot.bucket];
  const TensorView flat = weights(bucket.keep_f32);
  const TensorView own = view_of(slot.own, bucket.block, flat.dtype());
  if (tables.padded) zero(exec, own);
  ops::pack_runs(exec, {.to = own, .from = flat, .runs = tables.own});
  const comm::AllGather args{.send = own,
                             .recv = view_of(slot.all, bucket.elements(), flat.dtype())};
  if (parts_.overlap) return group_of(slot).post_all_gather(exec, args);
  group_of(slot).all_gather(exec, args);
  return nullptr;
}

void BucketTransfer::unpack(const Exec& exec, const Slot& slot) const {
  const Bucket& bucket = bucket_of(slot);
  const Tables& tables = tables_[slot.bucket];
  const bool gathered = slot.kind == Kind::gather;
  const bool whole = gathered || bucket.blocks == 1;
  const TensorView flat = gathered ? weights(bucket.keep_f32) : gradients(bucket.keep_f32);
  const DType dtype = gathered ? flat.dtype() : parts_.wire;
  const TensorView packed =
      whole ? view_of(slot.all, bucket.elements(), dtype) : view_of(slot.own, bucket.block, dtype);
  ops::unpack_runs(exec, {.to = flat, .from = packed, .runs = whole ? tables.all : tables.own});
}

}  // namespace shoal::parallel
