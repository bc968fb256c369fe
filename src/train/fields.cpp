#include "shoal/base/error.hpp"
#include "shoal/tensor/tensor.hpp"
#include "train/parameter_io.hpp"

namespace shoal::train {
namespace {

Field master_field(const Exec& exec, const optim::Optimizer& optimizer) {
  using Window = optim::Optimizer::MasterWindow;
  const auto window = [](const Field::Target& t) {
    return Window{.keep_f32 = t.keep_f32, .first = t.segment.offset, .count = t.segment.count};
  };
  return {.group = "weights",
          .present = [](bool) { return true; },
          .type = [](bool) { return io::H5Type::f32; },
          .get =
              [&exec, &optimizer, window](const Field::Target& t, std::byte* host) {
                optimizer.get_master(exec, window(t), reinterpret_cast<float*>(host));
              },
          .set =
              [&exec, &optimizer, window](const Field::Target& t, const std::byte* host) {
                optimizer.set_master(exec, window(t), reinterpret_cast<const float*>(host));
              }};
}

/// A state stored as it is; `member` picks it from the buffers.
Field state_field(const Exec& exec, const optim::Optimizer& optimizer, const std::string& name,
                  TensorView optim::StateBuffers::*member) {
  const auto view = [&optimizer, member](bool keep_f32) {
    return optimizer.buffers(keep_f32).*member;
  };
  const auto piece = [view](const Field::Target& t) {
    return view(t.keep_f32).rows(t.segment.offset, t.segment.count);
  };
  return {.group = "optimizer/" + name,
          .present = [view](bool keep_f32) { return !view(keep_f32).absent(); },
          .type = [view](bool keep_f32) { return io::h5_type(view(keep_f32).dtype()); },
          .get =
              [&exec, piece](const Field::Target& t, std::byte* host) {
                const TensorView source = piece(t);
                download(exec, host, source.bytes_begin(), source.bytes());
                exec.synchronize();
              },
          .set =
              [&exec, piece](const Field::Target& t, const std::byte* host) {
                const TensorView target = piece(t);
                upload(exec, target.bytes_begin(), host, target.bytes());
                exec.synchronize();
              }};
}

/// The same rounding as in training: a bf16 weight is the high half that split_master() makes.
void set_working_weight(const Exec& exec, const TensorView& target, const std::byte* host) {
  if (target.dtype() == DType::f32) {
    upload(exec, target.bytes_begin(), host, target.bytes());
    exec.synchronize();
    return;
  }
  const std::int64_t n = target.elements();
  const Tensor master{exec.device(), {n}, DType::f32};
  const Tensor low{exec.device(), {n}, DType::u16};
  upload(exec, master.view().bytes_begin(), host, master.view().bytes());
  ops::split_master(exec, {.value = target,
                           .low = target.dtype() == DType::bf16 ? low.view() : TensorView{},
                           .master = master});
  exec.synchronize();
}

}  // namespace

std::vector<Field> optimizer_fields(const Exec& exec, const optim::Optimizer& optimizer) {
  return {master_field(exec, optimizer), state_field(exec, optimizer, "m", &optim::StateBuffers::m),
          state_field(exec, optimizer, "v", &optim::StateBuffers::v),
          state_field(exec, optimizer, "u", &optim::StateBuffers::u)};
}

Field weight_field(const Exec& exec, const nn::ParameterStore& store) {
  return {.group = "weights",
          .present = [](bool) { return true; },
          .type = [](bool) { return io::H5Type::f32; },
          .get = [](const Field::Target&,
                    std::byte*) { fail("checkpoint", "working weights cannot be saved"); },
          .set =
              [&exec, &store](const Field::Target& t, const std::byte* host) {
                const TensorView& all = t.keep_f32 ? store.f32_values() : store.elem_values();
                set_working_weight(exec, all.rows(t.segment.offset, t.segment.count), host);
              }};
}

}  // namespace shoal::train
