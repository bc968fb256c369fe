#include <algorithm>
#include <array>

#include "shoal/ops/attention.hpp"
#include "shoal/ops/gemm.hpp"
#include "train/rate_probe.hpp"

namespace shoal::train {
namespace {

constexpr std::array kCpuProducts = {Product{64, 64, 64},    Product{128, 512, 128},
                                     Product{512, 256, 256}, Product{256, 1024, 256},
                                     Product{512, 512, 512}, Product{2048, 192, 128}};
constexpr std::array kGpuProducts = {Product{512, 512, 512},    Product{2048, 1024, 1024},
                                     Product{8192, 512, 1024},  Product{4096, 4096, 1024},
                                     Product{4096, 4096, 4096}, Product{16384, 1024, 2048}};

/// Queries and their gradients have H heads of 64, keys and values half as many.
constexpr std::int64_t kHeadDim = 64;
constexpr float kScale = 0.125F;

ops::Heads heads(const TensorView& x) {
  return {.rows = x, .first = 0, .heads = x.dim(1) / kHeadDim, .head_dim = kHeadDim};
}
ops::ConstHeads read(const TensorView& x) {
  return {.rows = x, .first = 0, .heads = x.dim(1) / kHeadDim, .head_dim = kHeadDim};
}

}  // namespace

Sizes sizes_for(bool gpu) {
  if (gpu) return {kGpuProducts, 8192, 2048, 4096, 32768, 2048, 16, 1 << 26};
  return {kCpuProducts, 512, 256, 512, 1024, 128, 4, 1 << 20};
}

/// A fit of seconds - launch to FLOPs and bytes.
MatmulRate RateProbe::rate_of(const std::vector<Sample>& samples, double launch_s) const {
  const Fit fit = fit_times(samples);
  constexpr double kUnlimited = 1e18;  // where no share of the time depends on it
  return {.flops_per_s = fit.first_s > 0.0 ? 1.0 / fit.first_s : kUnlimited,
          .bytes_per_s = fit.second_s > 0.0 ? 1.0 / fit.second_s : kUnlimited,
          .launch_s = launch_s};
}

MatmulRate RateProbe::dense() const {
  const auto bytes_per = static_cast<double>(size_of(elem_));
  std::vector<Sample> samples;
  double launch_s = 0.0;
  {
    const ScratchScope scope{exec_};
    const TensorView x = random({8, 8}), y = random({8, 8}), z = random({8, 8});
    launch_s = time([&] { ops::gemm_nt(exec_, {.c = z, .a = x, .b = y}); });
  }
  for (const Product& p : sizes_.products) {
    const ScratchScope scope{exec_};
    const TensorView x = random({p.m, p.k}), w = random({p.n, p.k}), y = random({p.m, p.n});
    const TensorView dw = scratch(exec_, {p.n, p.k}, DType::f32);
    const double flops = 2.0 * static_cast<double>(p.m * p.n * p.k);
    const double bytes = bytes_per * static_cast<double>(p.m * p.n + p.n * p.k + p.m * p.k);
    const auto add = [&](double seconds) {
      samples.push_back({flops, bytes, std::max(seconds - launch_s, 0.05 * seconds)});
    };
    add(time([&] { ops::gemm_nt(exec_, {.c = y, .a = x, .b = w}); }));
    add(time([&] { ops::gemm_nn(exec_, {.c = x, .a = y, .b = w}); }));
    add(time([&] {
      ops::gemm_tn(exec_, {.c = dw, .a = y, .b = x, .accumulate = ops::Accumulate::add});
    }));
  }
  return rate_of(samples, launch_s);
}

void RateProbe::grouped_products(std::int64_t rows, std::int64_t width,
                                 std::vector<Sample>& samples) const {
  constexpr std::int64_t kExperts = 8;
  const ScratchScope scope{exec_};
  const std::int64_t D = sizes_.hidden;
  std::vector<std::int32_t> first;
  for (std::int64_t e = 0; e <= kExperts; ++e) {
    first.push_back(static_cast<std::int32_t>(rows * e / kExperts));
  }
  const TensorView offsets = integers(first, {kExperts + 1});
  const TensorView x = random({rows, D}), y = random({rows, width});
  const TensorView w = random({kExperts, width, D});
  const TensorView dw = scratch(exec_, w.shape(), DType::f32);
  const double flops = 2.0 * static_cast<double>(rows * width * D);
  const auto moved = static_cast<double>(x.bytes() + y.bytes());
  const auto add = [&](double seconds, const TensorView& matrices) {
    samples.push_back({flops, moved + static_cast<double>(matrices.bytes()), seconds});
  };
  add(time([&] { ops::grouped_gemm_nt(exec_, {.c = y, .a = x, .b = w, .offsets_E1 = offsets}); }),
      w);
  add(time([&] { ops::grouped_gemm_nn(exec_, {.c = x, .a = y, .b = w, .offsets_E1 = offsets}); }),
      w);
  add(time([&] { ops::grouped_gemm_tn(exec_, {.c = dw, .a = y, .b = x, .offsets_E1 = offsets}); }),
      dw);
}

MatmulRate RateProbe::grouped() const {
  std::vector<Sample> samples;
  for (const std::int64_t width : {sizes_.width / 4, sizes_.width}) {
    grouped_products(sizes_.tokens / 2, width, samples);
    grouped_products(sizes_.tokens * 4, width, samples);
  }
  return rate_of(samples, 0.0);
}

void RateProbe::attention(ComputeRates& rates) const {
  const ScratchScope scope{exec_};
  const std::int64_t T = sizes_.tokens, H = sizes_.heads;
  const std::int64_t wide = H * kHeadDim, narrow = wide / 2;
  std::vector<std::int32_t> starts;
  for (std::int64_t t = 0; t < T; ++t) {
    starts.push_back(static_cast<std::int32_t>(t / sizes_.sequence * sizes_.sequence));
  }
  const TensorView start = integers(starts, {T});
  const TensorView q = random({T, wide}), k = random({T, narrow}), v = random({T, narrow});
  const TensorView out = random({T, wide}), lse = scratch(exec_, {H, T}, DType::f32);
  const TensorView dq = random({T, wide}), dk = random({T, narrow}), dv = random({T, narrow});
  const double keys = (static_cast<double>(sizes_.sequence) + 1.0) / 2.0;
  const double flops = 4.0 * static_cast<double>(wide * T) * keys;
  const double forward_s = time([&] {
    ops::attention_forward(exec_, {.out = heads(out),
                                   .lse_HT = lse,
                                   .q = read(q),
                                   .k = read(k),
                                   .v = read(v),
                                   .doc_start_T = start,
                                   .active_groups_T = {},
                                   .scale = kScale});
  });
  const double backward_s = time([&] {
    ops::attention_backward(exec_, {.dq = heads(dq),
                                    .dk = heads(dk),
                                    .dv = heads(dv),
                                    .dout = read(q),
                                    .out = read(out),
                                    .q = read(q),
                                    .k = read(k),
                                    .v = read(v),
                                    .lse_HT = lse,
                                    .doc_start_T = start,
                                    .active_groups_T = {},
                                    .scale = kScale});
  });
  rates.attention_forward_flops_per_s = flops / forward_s;
  rates.attention_backward_flops_per_s = 2.5 * flops / backward_s;
}

}  // namespace shoal::train
