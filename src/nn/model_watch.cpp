// Where a pass comes to the weights of a chunk, and where it leaves their gradients.
#include "shoal/nn/model.hpp"

namespace shoal::nn {
namespace {

TensorRange only(ParameterLayout::Handle tensor) {
  return {.first = tensor, .last = tensor + 1};
}

}  // namespace

void Model::before_layer(const Exec& exec, const Pass& pass, std::size_t block) const {
  if (pass.watch != nullptr) pass.watch->before_use(exec, tensors_of(layout_.layers[block]));
}

void Model::before_table(const Exec& exec, const Pass& pass) const {
  if (pass.watch != nullptr) pass.watch->before_use(exec, only(layout_.embedding));
}

void Model::before_head(const Exec& exec, const Pass& pass) const {
  if (pass.watch == nullptr) return;
  pass.watch->before_use(exec, only(layout_.final_norm));
  pass.watch->before_use(exec, only(layout_.lm_head));
}

void Model::after_layer(const Exec& exec, const Pass& pass, std::size_t block) const {
  if (pass.watch != nullptr) pass.watch->after_gradients(exec, tensors_of(layout_.layers[block]));
}

void Model::after_table(const Exec& exec, const Pass& pass) const {
  if (pass.watch != nullptr) pass.watch->after_gradients(exec, only(layout_.embedding));
}

/// The gradient of a tied table is final where the embedding has added to it; a table whose
/// embedding is on another rank is not announced.
void Model::after_head(const Exec& exec, const Pass& pass) const {
  if (pass.watch == nullptr) return;
  pass.watch->after_gradients(exec, only(layout_.final_norm));
  if (!head_writes_table_) pass.watch->after_gradients(exec, only(layout_.lm_head));
}

}  // namespace shoal::nn
