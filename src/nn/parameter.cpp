#include "shoal/nn/parameter.hpp"

#include <algorithm>
#include <string>

#include "shoal/base/math.hpp"

namespace shoal::nn {
namespace {

TensorView flat_part(const TensorView& buffer, std::int64_t offset, const Shape& shape) {
  return buffer.rows(offset, shape.elements()).reshape(shape);
}

}  // namespace

Slice whole(const Shape& shape) {
  Slice slice;
  for (int i = 0; i < shape.rank(); ++i) {
    slice.push_back({.start = 0, .stride = shape[i], .count = 1, .block = shape[i]});
  }
  return slice;
}

Shape local_shape(const Slice& slice) {
  Shape shape;
  for (const SliceDim& dim : slice) shape.push_back(dim.size());
  return shape;
}

ParameterLayout::Handle ParameterLayout::add(std::vector<ParameterSpec> specs, Shape fused,
                                             std::int64_t interleave) {
  expect(!specs.empty() && interleave >= 1, "a fused tensor needs a member and a part");
  Group group{.members = {}, .shape = fused, .interleave = interleave};
  std::int64_t stride = 0;
  for (const ParameterSpec& spec : specs) {
    expect(spec.slice.size() == static_cast<std::size_t>(spec.shape.rank()),
           spec.name + ": the slice needs one entry for each dimension");
    expect(spec.keep_f32 == specs.front().keep_f32 && spec.decay == specs.front().decay,
           spec.name + ": fused parameters share precision and decay");
    const std::int64_t elements = local_shape(spec.slice).elements();
    expect(elements % interleave == 0, spec.name + ": parts do not divide the parameter");
    group.members.push_back(static_cast<int>(parameters_.size()));
    parameters_.push_back(
        {.spec = spec,
         .storage = {.offset = stride, .parts = interleave, .inner = elements / interleave},
         .tensor = static_cast<Handle>(groups_.size())});
    stride += elements / interleave;
  }
  expect(stride * interleave == fused.elements(),
         specs.front().name + ": the fused shape differs in size from its members");
  for (const int member : group.members)
    parameters_[static_cast<std::size_t>(member)].storage.stride = stride;
  groups_.push_back(std::move(group));
  return static_cast<Handle>(groups_.size()) - 1;
}

const Parameter& ParameterLayout::front(const Group& group) const {
  return parameters_[static_cast<std::size_t>(group.members.front())];
}

std::int64_t ParameterLayout::place(bool keep_f32, bool decay, std::int64_t offset) {
  const std::int64_t first = offset;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const ParameterSpec& spec = front(groups_[g]).spec;
    if (spec.keep_f32 != keep_f32 || spec.decay != decay) continue;
    fused_[g] = {.shape = groups_[g].shape, .offset = offset, .keep_f32 = keep_f32};
    for (const int member : groups_[g].members) {
      parameters_[static_cast<std::size_t>(member)].storage.offset += offset;
    }
    offset = round_up(offset + groups_[g].shape.elements(), kAlign);
  }
  if (offset > first) {
    ranges_.push_back(
        {.first = first, .count = offset - first, .keep_f32 = keep_f32, .decay = decay});
  }
  return offset;
}

void ParameterLayout::finish() {
  expect(fused_.empty(), "ParameterLayout::finish is called once");
  fused_.resize(groups_.size());
  elem_count_ = place(false, false, place(false, true, 0));
  f32_count_ = place(true, false, place(true, true, 0));
}

const Parameter& ParameterLayout::find(std::string_view name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& p) { return p.spec.name == name; });
  expect(found != parameters_.end(), "no parameter is named " + std::string{name});
  return *found;
}

const FusedTensor& ParameterLayout::fused(Handle handle) const {
  expect(handle >= 0 && handle < static_cast<Handle>(fused_.size()), "no such fused tensor");
  return fused_[static_cast<std::size_t>(handle)];
}

ParameterStore::ParameterStore(const Exec& exec, const ParameterLayout& layout, DType elem,
                               bool gradients)
    : layout_{&layout},
      elem_{persistent(exec, {layout.elem_count()}, elem, MemoryKind::weights)},
      f32_{persistent(exec, {layout.f32_count()}, DType::f32, MemoryKind::weights)} {
  zero(exec, elem_);
  zero(exec, f32_);
  if (!gradients) return;
  grad_ = persistent(exec, {layout.elem_count() + layout.f32_count()}, DType::f32,
                     MemoryKind::gradients);
  zero(exec, grad_);
}

Weight ParameterStore::weight(ParameterLayout::Handle handle) const {
  const FusedTensor& fused = layout_->fused(handle);
  Weight weight{.value = flat_part(fused.keep_f32 ? f32_ : elem_, fused.offset, fused.shape)};
  if (!grad_.absent()) {
    weight.grad =
        flat_part(grad_, layout_->gradient_base(fused.keep_f32) + fused.offset, fused.shape);
  }
  return weight;
}

TensorView ParameterStore::values(const OptimizerRange& range) const {
  return (range.keep_f32 ? f32_ : elem_).rows(range.first, range.count);
}

TensorView ParameterStore::gradients(const OptimizerRange& range) const {
  return grad_.rows(layout_->gradient_base(range.keep_f32) + range.first, range.count);
}

}  // namespace shoal::nn
