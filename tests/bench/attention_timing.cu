#include "bench/attention_problem.cuh"
#include "ops/attention.cuh"

namespace shoal::bench {

void time_backward_attention(const Exec& exec, const AttentionShape& s);  // attention_backward.cu

namespace {

/// Batches of 16384 tokens in sequences of T, with as many groups as heads and with four heads a
/// group.
std::vector<AttentionShape> timed_shapes() {
  constexpr std::int64_t kTokens = 16384, kHeads = 16;
  std::vector<AttentionShape> all;
  for (const std::int64_t d : {128, 64}) {
    for (const std::int64_t groups : {16, 4}) {
      for (const std::int64_t T : {2048, 4096, 8192}) {
        all.push_back({.T = kTokens, .H = kHeads, .G = groups, .d = d, .document = T});
      }
    }
  }
  return all;
}

void print(const char* what, double ms, double flops) {
  std::printf("  %-24s %8.3f ms %6.0f TFLOP/s\n", what, ms, flops / ms / 1e9);
  std::fflush(stdout);
}

void time_forward(const Exec& exec, const AttentionShape& s) {
  using Elem = __nv_bfloat16;
  const AttentionProblem p{exec, s};
  const auto args = p.forward(p.out, p.lse);
  const auto call = ops::cuda::forward_call<Elem>(args);
  auto* words = reinterpret_cast<int*>(p.words.view().bytes_begin());
  print("forward",
        milliseconds(exec, [&] { ops::cuda::launch_forward_wgmma(exec, call, args, words); }),
        causal_flops(s));
  if (s.G == s.H) {
    print("forward, mma.sync",
          milliseconds(exec, [&] { ops::cuda::launch_forward_mma(exec, call); }), causal_flops(s));
  }
}

}  // namespace

void time_attention(const Exec& exec, const std::string& only) {
  for (const AttentionShape& s : timed_shapes()) {
    std::printf("%s\n", text(s).c_str());
    if (only != "backward") time_forward(exec, s);
    if (only != "forward") time_backward_attention(exec, s);
  }
}

}  // namespace shoal::bench
