// bench_attention: checks attention on warpgroup instructions against that on mma.sync, at edge
// shapes, then prints its time at the shapes of models. Needs a GPU of compute capability 9.0.
// Usage: bench_attention [check | time [forward | backward]]
#include <random>

#include "bench/attention_problem.cuh"
#include "ops/attention.cuh"

namespace shoal::bench {

bool check_backward_attention(const Exec& exec, const AttentionShape& s);  // attention_backward.cu
void time_attention(const Exec& exec, const std::string& only);            // attention_timing.cu

namespace {

/// Of `groups` groups, those that each token uses, drawn in blocks of tokens.
std::vector<std::int32_t> some_active(std::int64_t T, std::int32_t groups, std::int64_t block) {
  std::mt19937 random{5};
  std::vector<std::int32_t> active(static_cast<std::size_t>(T));
  std::int32_t now = 0;
  for (std::int64_t t = 0; t < T; ++t) {
    if (t % block == 0) now = static_cast<std::int32_t>(random() % (groups + 1));
    active[static_cast<std::size_t>(t)] = now;
  }
  return active;
}

std::vector<AttentionShape> shapes() {
  std::vector<AttentionShape> all;
  for (const std::int64_t d : {128, 64}) {
    for (const std::int64_t T : {1, 63, 64, 65, 127, 128, 129, 193, 257}) {
      all.push_back({.T = T, .H = 2, .G = 1, .d = d});
      all.push_back({.T = 3 * T, .H = 8, .G = 1, .d = d, .dtype = DType::f16, .document = T});
    }
    all.push_back({.T = 1000, .H = 3, .G = 3, .d = d, .more = {1, 64, 70, 71, 350, 640, 999}});
    all.push_back({.T = 4096, .H = 4, .G = 2, .d = d, .dtype = DType::f16, .document = 1024});
    all.push_back({.T = 4096, .H = 16, .G = 2, .d = d, .document = 2048});
    all.push_back({.T = 2000, .H = 4, .G = 4, .d = d, .active = some_active(2000, 4, 64)});
    all.push_back(
        {.T = 1500, .H = 8, .G = 4, .d = d, .more = {700}, .active = some_active(1500, 4, 7)});
    all.push_back({.T = 70000, .H = 2, .G = 1, .d = d, .document = 10000});
    all.push_back({.T = 16384, .H = 16, .G = 16, .d = d, .document = 2048});
    // Pieces of the backward work with two heads: two pieces a group, and one.
    all.push_back({.T = 16384, .H = 16, .G = 4, .d = d, .document = 2048});
    all.push_back({.T = 16384, .H = 16, .G = 8, .d = d, .document = 2048});
  }
  return all;
}

/// The first elements that differ by more than rounding, for the reader of a failure.
void print_wrong(const Exec& exec, const Tensor& got, const Tensor& want) {
  const auto x = download_floats(exec, got), y = download_floats(exec, want);
  const std::int64_t columns = got.shape()[1];
  int printed = 0;
  for (std::size_t i = 0; i < x.size() && printed < 6; ++i) {
    const bool near = std::abs(x[i] - y[i]) <= 0.03F * (1.0F + std::abs(y[i])) || x[i] == y[i];
    if (near) continue;
    std::printf("    row %lld column %lld: got %g, expected %g\n",
                static_cast<long long>(static_cast<std::int64_t>(i) / columns),
                static_cast<long long>(static_cast<std::int64_t>(i) % columns), x[i], y[i]);
    ++printed;
  }
}

/// Differences of two log-sum-exps, where infinities agree.
bool report(const Exec& exec, const std::string& what, const Tensor (&got)[3],
            const Tensor (&want)[2]) {
  const Difference out = compare(exec, got[0], want[0]), lse = compare(exec, got[1], want[1]);
  const Difference bits = compare(exec, got[0], got[2]);
  const bool good = out.relative < 6e-3 && lse.relative < 1e-5 && bits.not_equal == 0;
  std::printf("%-58s out %.1e lse %.1e again %lld %s\n", what.c_str(), out.relative, lse.relative,
              static_cast<long long>(bits.not_equal), good ? "ok" : "WRONG");
  if (!good) {
    print_wrong(exec, got[0], want[0]);
    print_wrong(exec, got[1], want[1]);
  }
  std::fflush(stdout);
  return good;
}

bool check_forward(const Exec& exec, const AttentionShape& s) {
  const AttentionProblem p{exec, s};
  const auto fresh = [&](const Tensor& like) {
    Tensor t{DeviceKind::cuda, like.shape(), like.dtype()};
    poison(exec, t);
    return t;
  };
  const Tensor want[2] = {fresh(p.out), fresh(p.lse)};
  const Tensor got[3] = {fresh(p.out), fresh(p.lse), fresh(p.out)};
  ops::cuda::with_device_elem(s.dtype, [&](auto elem) {
    using Elem = decltype(elem);
    if constexpr (!std::is_same_v<Elem, float>) {
      using ops::cuda::forward_call;
      auto* words = reinterpret_cast<int*>(p.words.view().bytes_begin());
      const auto wgmma = [&](const Tensor& out) {
        const auto args = p.forward(out, got[1]);
        ops::cuda::launch_forward_wgmma(exec, forward_call<Elem>(args), args, words);
      };
      ops::cuda::launch_forward_mma(exec, forward_call<Elem>(p.forward(want[0], want[1])));
      wgmma(got[0]);
      wgmma(got[2]);
    }
  });
  return report(exec, text(s), got, want);
}

bool check_all(const Exec& exec, const std::string& only) {
  int wrong = 0;
  for (const AttentionShape& s : shapes()) {
    if (only != "backward") wrong += check_forward(exec, s) ? 0 : 1;
    if (only != "forward") wrong += check_backward_attention(exec, s) ? 0 : 1;
  }
  std::printf("%d wrong\n", wrong);
  return wrong == 0;
}

}  // namespace
}  // namespace shoal::bench

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 1 ? argv[1] : "all", only = argc > 2 ? argv[2] : "";
    const shoal::Exec exec{shoal::DeviceKind::cuda, {}};
    const bool good = what == "time" || shoal::bench::check_all(exec, only);
    if (what != "check") shoal::bench::time_attention(exec, only);
    return good ? 0 : 1;
  } catch (const std::exception& e) {
    std::printf("bench_attention: %s\n", e.what());
    return 1;
  }
}
