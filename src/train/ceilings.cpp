#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/gemm.hpp"
#include "shoal/train/benchmark.hpp"
#include "train/kernel_timer.hpp"

namespace shoal::train {
namespace {

/// Sizes beyond which a device gets no faster.
struct CeilingSizes {
  std::int64_t product, copied;
};
CeilingSizes ceiling_sizes(DeviceKind device) {
  constexpr std::int64_t kMiB = std::int64_t{1} << 20;
  if (device == DeviceKind::cuda) return {.product = 8192, .copied = 2048 * kMiB};
  return {.product = 1024, .copied = 128 * kMiB};
}

double time_product(const Exec& exec, std::int64_t n, DType elem) {
  const ScratchScope scope{exec};
  const Shape square{n, n};
  const TensorView a = scratch(exec, square, elem), b = scratch(exec, square, elem);
  const TensorView c = scratch(exec, square, elem);
  ops::fill_normal(exec, {.y = a, .seed = 1, .stream = 1, .std = 1.0F});
  ops::fill_normal(exec, {.y = b, .seed = 1, .stream = 2, .std = 1.0F});
  return median_time_of(exec, [&] { ops::gemm_nt(exec, {.c = c, .a = a, .b = b}); });
}

double time_copy(const Exec& exec, std::int64_t bytes) {
  const ScratchScope scope{exec};
  const TensorView from = scratch(exec, {bytes}, DType::u8), to = scratch(exec, {bytes}, DType::u8);
  zero(exec, from);
  return median_time_of(exec, [&] { copy(exec, to.bytes_begin(), from.bytes_begin(), bytes); });
}

}  // namespace

Ceilings measure_ceilings(DeviceKind device, const std::string& precision) {
  const CeilingSizes sizes = ceiling_sizes(device);
  const DType elem = parse_precision(precision);
  const Exec dry = Exec::dry(device);
  (void)time_product(dry, sizes.product, elem);
  (void)time_copy(dry, sizes.copied);
  const Exec exec{device, dry.arena().plan()};
  const auto n = static_cast<double>(sizes.product);
  const auto moved = 2.0 * static_cast<double>(sizes.copied);
  return {.device = device_info(device).name,
          .precision = precision,
          .product = sizes.product,
          .flops_per_s = 2.0 * n * n * n / time_product(exec, sizes.product, elem),
          .copied = sizes.copied,
          .bytes_per_s = moved / time_copy(exec, sizes.copied)};
}

}  // namespace shoal::train
