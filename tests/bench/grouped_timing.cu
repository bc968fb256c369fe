#include <functional>
#include <string>

#include "bench/grouped_problem.cuh"
#include "bench/timing.hpp"
#include "shoal/ops/grouped_swiglu.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::bench {
namespace {

using ops::Accumulate;
using ops::cuda::GroupedCall;
using ops::cuda::GroupedForm;
using namespace ops;  // NOLINT: the ops are what this file is about

/// What the device reaches at all: a copy and a large product of random numbers.
void time_ceilings(const Exec& exec) {
  constexpr std::int64_t kBytes = std::int64_t{2} << 30, kSize = 8192;
  const Tensor from{DeviceKind::cuda, {kBytes}, DType::u8},
      to{DeviceKind::cuda, {kBytes}, DType::u8};
  const double copy_ms = milliseconds(
      exec, [&] { copy(exec, to.view().bytes_begin(), from.view().bytes_begin(), kBytes); });
  const Shape square{kSize, kSize};
  const Tensor a = random_tensor(exec, square, DType::bf16, 1);
  const Tensor b = random_tensor(exec, square, DType::bf16, 2);
  const Tensor c{DeviceKind::cuda, square, DType::bf16};
  const double ms = milliseconds(exec, [&] { ops::gemm_nt(exec, {.c = c, .a = a, .b = b}); });
  std::printf("copy %.0f GB/s, product of 8192 %.0f TFLOP/s\n", 2.0 * kBytes / copy_ms / 1e6,
              2.0 * kSize * kSize * kSize / ms / 1e9);
}

struct Layer {
  const char* name;
  std::int64_t tokens, hidden, expert_hidden;
  int experts, per_token;
};

/// Operands of an expert layer, forward and backward.
struct Problem {
  Problem(const Exec& on, const Layer& layer)
      : exec{on},
        R{layer.tokens * layer.per_token},
        D{layer.hidden},
        F{layer.expert_hidden},
        E{layer.experts} {
    upload_values(exec, offsets, random_offsets(R, layer.experts, 0.3, 7));
  }
  [[nodiscard]] Tensor make(const Shape& shape, unsigned seed, float scale = 1.0F) const {
    return random_tensor(exec, shape, DType::bf16, seed, scale);
  }
  const Exec& exec;
  std::int64_t R, D, F, E;
  Tensor offsets{DeviceKind::cuda, {E + 1}, DType::i32};
  Tensor rows = make({R, D}, 1), out = make({R, D}, 2), h = make({R, F}, 3), dh = make({R, F}, 4);
  Tensor gate_up = make({R, 2 * F}, 5), dgate_up = make({R, 2 * F}, 6);
  Tensor up = make({E, 2 * F, D}, 7, 0.02F), down = make({E, D, F}, 8, 0.02F);
  Tensor up_grad{DeviceKind::cuda, {E, 2 * F, D}, DType::f32};
  Tensor down_grad{DeviceKind::cuda, {E, D, F}, DType::f32};
};

/// One line: the time, and the rate of the products in it.
void print(const Problem& p, const char* what, double flops, const std::function<void()>& body) {
  const double ms = milliseconds(p.exec, body);
  std::printf("  %-34s %8.3f ms %6.0f TFLOP/s\n", what, ms, flops / ms / 1e9);
  std::fflush(stdout);
}

void time_forward(const Problem& p) {
  const double up = 4.0 * p.R * p.D * p.F, down = up / 2;
  const ConstTensorView limit = ConstTensorView{p.offsets}.rows(p.E, 1);
  print(p, "up + SwiGLU", up, [&] {
    grouped_swiglu_forward(p.exec, {p.h, p.gate_up, p.rows, p.up, p.offsets});
  });
  print(p, "up", up, [&] {
    grouped_gemm_nt(p.exec, {.c = p.gate_up, .a = p.rows, .b = p.up, .offsets_E1 = p.offsets});
  });
  print(p, "SwiGLU alone", 0.0, [&] {
    swiglu_forward(p.exec, {.h_RF = p.h, .gate_up_RF = p.gate_up, .rows_limit = limit});
  });
  print(p, "down", down, [&] {
    grouped_gemm_nt(p.exec, {.c = p.out, .a = p.h, .b = p.down, .offsets_E1 = p.offsets});
  });
}

void time_backward(const Problem& p) {
  const double up = 4.0 * p.R * p.D * p.F, down = up / 2;
  const ConstTensorView limit = ConstTensorView{p.offsets}.rows(p.E, 1);
  print(p, "dh", down, [&] {
    grouped_gemm_nn(p.exec, {.c = p.dh, .a = p.out, .b = p.down, .offsets_E1 = p.offsets});
  });
  print(p, "SwiGLU gradient alone", 0.0, [&] {
    swiglu_backward(p.exec, {p.dgate_up, p.dh, p.gate_up, limit});
  });
  print(p, "drows", up, [&] {
    grouped_gemm_nn(p.exec, {.c = p.rows, .a = p.dgate_up, .b = p.up, .offsets_E1 = p.offsets});
  });
  for (const auto accumulate : {Accumulate::overwrite, Accumulate::add}) {
    const bool add = accumulate == Accumulate::add;
    print(p, add ? "down weights, add" : "down weights", down, [&] {
      grouped_gemm_tn(p.exec, {.c = p.down_grad,
                               .a = p.out,
                               .b = p.h,
                               .offsets_E1 = p.offsets,
                               .accumulate = accumulate});
    });
    print(p, add ? "up weights, add" : "up weights", up, [&] {
      grouped_gemm_tn(p.exec, {.c = p.up_grad,
                               .a = p.dgate_up,
                               .b = p.rows,
                               .offsets_E1 = p.offsets,
                               .accumulate = accumulate});
    });
  }
}

template <GroupedForm kForm>
void run_mma(const Problem& p, const Tensor& c, const Tensor& a, const Tensor& b) {
  const Tensor& matrices = kForm == GroupedForm::tn ? c : b;
  ops::cuda::grouped_mma<kForm>(p.exec,
                                GroupedCall{.a = a.view().bytes_begin(),
                                            .b = b.view().bytes_begin(),
                                            .c = c.view().bytes_begin(),
                                            .offsets = p.offsets.view().data<std::int32_t>(),
                                            .experts = static_cast<int>(p.E),
                                            .n = matrices.shape()[1],
                                            .k = matrices.shape()[2],
                                            .add = false},
                                {.c = c, .a = a, .b = b, .offsets_E1 = p.offsets});
}

void time_mma(const Problem& p) {
  const double up = 4.0 * p.R * p.D * p.F;
  print(p, "up, mma.sync", up, [&] { run_mma<GroupedForm::nt>(p, p.gate_up, p.rows, p.up); });
  print(p, "drows, mma.sync", up, [&] { run_mma<GroupedForm::nn>(p, p.rows, p.dgate_up, p.up); });
  print(p, "up weights, mma.sync", up,
        [&] { run_mma<GroupedForm::tn>(p, p.up_grad, p.dgate_up, p.rows); });
}

}  // namespace

void time_all(const Exec& exec, const std::string& only) {
  if (only.empty()) time_ceilings(exec);
  for (const Layer& layer :
       {Layer{"fine", 32768, 2048, 1024, 64, 8},
        Layer{"fine, 16k tokens", 16384, 2048, 1024, 64, 8},
        Layer{"coarse", 32768, 2048, 7168, 8, 2}, Layer{"small", 16384, 768, 512, 32, 4}}) {
    if (!only.empty() && only != layer.name) continue;
    std::printf("%s: T %lld d %lld n %lld E %d K %d\n", layer.name,
                static_cast<long long>(layer.tokens), static_cast<long long>(layer.hidden),
                static_cast<long long>(layer.expert_hidden), layer.experts, layer.per_token);
    const Problem problem{exec, layer};
    time_forward(problem);
    time_backward(problem);
    if (only.empty() && layer.experts == 64 && layer.tokens == 32768) time_mma(problem);
  }
}

}  // namespace shoal::bench
