#include "shoal/base/error.hpp"
#include "shoal/nn/parameter_runs.hpp"
#include "shoal/tensor/tensor.hpp"
#include "train/parameter_io.hpp"

namespace shoal::train {
namespace {

Field master_field(const Exec& exec, const optim::Optimizer& optimizer) {
  using Window = optim::Optimizer::MasterWindow;
  const auto window = [](const Field::Window& w) {
    return Window{.parameter = w.parameter, .first = w.first, .count = w.count};
  };
  return {.group = "weights",
          .get =
              [&exec, &optimizer, window](const Field::Window& w, std::byte* host) {
                optimizer.get_master(exec, window(w), reinterpret_cast<float*>(host));
              },
          .set =
              [&exec, &optimizer, window](const Field::Window& w, const std::byte* host) {
                optimizer.set_master(exec, window(w), reinterpret_cast<const float*>(host));
              }};
}

/// A state stored as it is; `member` picks it from the buffers.
Field state_field(const Exec& exec, const optim::Optimizer& optimizer, const std::string& name,
                  TensorView optim::StateBuffers::*member, DType dtype) {
  const auto piece = [&optimizer, member](const Field::Window& w) {
    const optim::StateBlock& block = optimizer.block(w.parameter);
    expect(w.first >= block.first && w.first + w.count <= block.first + block.count,
           "states of rows that another rank holds");
    const TensorView& all = optimizer.buffers(block.keep_f32).*member;
    return all.rows(block.offset + w.first - block.first, w.count);
  };
  return {.group = "optimizer/" + name,
          .type = io::h5_type(dtype),
          .held_only = true,
          .get =
              [&exec, piece](const Field::Window& w, std::byte* host) {
                const TensorView source = piece(w);
                download(exec, host, source.bytes_begin(), source.bytes());
                exec.synchronize();
              },
          .set =
              [&exec, piece](const Field::Window& w, const std::byte* host) {
                const TensorView target = piece(w);
                upload(exec, target.bytes_begin(), host, target.bytes());
                exec.synchronize();
              }};
}

/// The same rounding as in training: a bf16 weight is the high half that split_master() makes.
void set_working_weights(const Exec& exec, const nn::ParameterStore& store, const Field::Window& w,
                         const std::byte* host) {
  const nn::Parameter& p = store.layout().parameters()[static_cast<std::size_t>(w.parameter)];
  const TensorView& all = p.spec.keep_f32 ? store.f32_values() : store.elem_values();
  const Tensor master{exec.device(), {w.count}, DType::f32};
  const Tensor low{exec.device(), {w.count}, DType::u16};
  upload(exec, master.view().bytes_begin(), host, master.view().bytes());
  for (const nn::StorageRun& run : nn::storage_runs(p.storage, w.first, w.count)) {
    const std::int64_t at = run.local - w.first;
    ops::split_master(exec, {.value = all.rows(run.offset, run.count),
                             .low = low.view().rows(at, run.count),
                             .master = master.view().rows(at, run.count)});
  }
  exec.synchronize();
}

}  // namespace

std::vector<Field> optimizer_fields(const Exec& exec, const optim::Optimizer& optimizer) {
  const optim::StateTypes types = optim::state_types(optimizer.config());
  std::vector<Field> fields = {master_field(exec, optimizer)};
  const auto add = [&](const char* name, TensorView optim::StateBuffers::*member,
                       const std::optional<DType>& type) {
    if (type) fields.push_back(state_field(exec, optimizer, name, member, *type));
  };
  add("m", &optim::StateBuffers::m, types.m);
  add("v", &optim::StateBuffers::v, types.v);
  add("u", &optim::StateBuffers::u, types.u);
  return fields;
}

Field weight_field(const Exec& exec, const nn::ParameterStore& store) {
  return {
      .group = "weights",
      .get = [](const Field::Window&,
                std::byte*) { fail("checkpoint", "working weights cannot be saved"); },
      .set = [&exec, &store](const Field::Window& w,
                             const std::byte* host) { set_working_weights(exec, store, w, host); }};
}

}  // namespace shoal::train
