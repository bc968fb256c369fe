// The backward part of bench_attention.
#include "bench/attention_problem.cuh"
#include "ops/attention.cuh"
#include "ops/attention_backward_work.hpp"

namespace shoal::bench {
namespace {

/// An attention problem with its forward result, and room for gradients.
struct BackwardProblem {
  struct Gradients {
    Tensor dq, dk, dv;
  };
  BackwardProblem(const Exec& exec, const AttentionShape& s) : p{exec, s} {
    const auto args = p.forward(p.out, p.lse);
    s.dtype == DType::bf16
        ? ops::cuda::launch_forward_mma(exec, ops::cuda::forward_call<__nv_bfloat16>(args))
        : ops::cuda::launch_forward_mma(exec, ops::cuda::forward_call<__half>(args));
  }
  [[nodiscard]] Gradients gradients() const {
    const auto fresh = [&](std::int64_t heads) {
      Tensor t{DeviceKind::cuda, {p.s.T, heads * p.s.d}, p.s.dtype};
      poison(p.exec, t);
      return t;
    };
    return {.dq = fresh(p.s.H), .dk = fresh(p.s.G), .dv = fresh(p.s.G)};
  }
  [[nodiscard]] ops::AttentionBackward args(const Gradients& to) const {
    const auto forward = p.forward(p.out, p.lse);
    return {.dq = p.heads<TensorView>(to.dq, 0, p.s.H),
            .dk = p.heads<TensorView>(to.dk, 0, p.s.G),
            .dv = p.heads<TensorView>(to.dv, 0, p.s.G),
            .dout = p.heads<ConstTensorView>(dout, 0, p.s.H),
            .out = p.heads<ConstTensorView>(p.out, 0, p.s.H),
            .q = forward.q,
            .k = forward.k,
            .v = forward.v,
            .lse_HT = p.lse,
            .doc_start_T = forward.doc_start_T,
            .active_groups_T = forward.active_groups_T,
            .scale = forward.scale};
  }
  template <class Elem>
  void run(const Gradients& to, bool wgmma) const {
    const auto a = args(to);
    auto* floats = reinterpret_cast<float*>(scratch.view().bytes_begin());
    const auto call = ops::cuda::backward_call<Elem>(a);
    wgmma ? ops::cuda::launch_backward_wgmma(p.exec, a, call, floats)
          : ops::cuda::launch_backward_by_warps(p.exec, a, call, floats);
  }

  AttentionProblem p;
  Tensor dout = random_tensor(p.exec, p.out.shape(), p.s.dtype, 3);
  Tensor scratch{
      DeviceKind::cuda, {ops::backward_work_words(p.s.T, p.s.H, p.s.G, p.s.d)}, DType::f32};
};

/// The first elements that differ by more than rounding.
void print_wrong(const Exec& exec, const char* name, const Tensor& got, const Tensor& want) {
  const auto x = download_floats(exec, got), y = download_floats(exec, want);
  const std::int64_t columns = got.shape()[1];
  int printed = 0;
  for (std::size_t i = 0; i < x.size() && printed < 6; ++i) {
    if (std::abs(x[i] - y[i]) <= 0.03F * (1.0F + std::abs(y[i]))) continue;
    const auto at = static_cast<std::int64_t>(i);
    std::printf("    %s row %lld column %lld: got %g, expected %g\n", name,
                static_cast<long long>(at / columns), static_cast<long long>(at % columns), x[i],
                y[i]);
    ++printed;
  }
}

}  // namespace

/// The gradients against those of mma.sync, and two runs against each other.
bool check_backward_attention(const Exec& exec, const AttentionShape& s) {
  const BackwardProblem problem{exec, s};
  const auto want = problem.gradients(), got = problem.gradients(), again = problem.gradients();
  const auto run = [&](const auto& to, bool wgmma) {
    s.dtype == DType::bf16 ? problem.run<__nv_bfloat16>(to, wgmma) : problem.run<__half>(to, wgmma);
  };
  run(want, false);
  poison(exec, problem.scratch);
  run(got, true);
  run(again, true);
  const Difference dq = compare(exec, got.dq, want.dq), dk = compare(exec, got.dk, want.dk),
                   dv = compare(exec, got.dv, want.dv);
  const std::int64_t changed = compare(exec, got.dq, again.dq).not_equal +
                               compare(exec, got.dk, again.dk).not_equal +
                               compare(exec, got.dv, again.dv).not_equal;
  constexpr double kLargest = 8e-3;                 // both round P and dS
  const bool single = s.T == 1 || s.document == 1;  // dq and dk are rounding alone
  const bool good = (single || (dq.relative < kLargest && dk.relative < kLargest)) &&
                    dv.relative < kLargest && changed == 0;
  std::printf("%-58s dq %.1e dk %.1e dv %.1e again %lld %s\n", text(s).c_str(), dq.relative,
              dk.relative, dv.relative, static_cast<long long>(changed), good ? "ok" : "WRONG");
  if (!good) {
    print_wrong(exec, "dq", got.dq, want.dq);
    print_wrong(exec, "dk", got.dk, want.dk);
    print_wrong(exec, "dv", got.dv, want.dv);
  }
  std::fflush(stdout);
  return good;
}

void time_backward_attention(const Exec& exec, const AttentionShape& s) {
  const BackwardProblem problem{exec, s};
  const auto to = problem.gradients();
  const auto print = [&](const char* what, bool wgmma) {
    const double ms = milliseconds(exec, [&] { problem.run<__nv_bfloat16>(to, wgmma); });
    std::printf("  %-24s %8.3f ms %6.0f TFLOP/s\n", what, ms, 2.5 * causal_flops(s) / ms / 1e9);
    std::fflush(stdout);
  };
  print("backward", true);
  if (s.G == s.H) print("backward, mma.sync", false);
}

}  // namespace shoal::bench
