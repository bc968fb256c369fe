// bench_router: the error of a router's products against sums in double, whether tokens choose the
// experts that fp32 products of the library choose, and the time of every op of the router.
// Needs a GPU. Usage: bench_router [shape]
#include <set>
#include <string>

#include "bench/grouped_problem.cuh"
#include "bench/timing.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/permute.hpp"
#include "shoal/ops/router.hpp"
#include "shoal/ops/router_ledger.hpp"
#include "shoal/ops/router_products.hpp"

namespace shoal::bench {
namespace {

using namespace ops;  // NOLINT: the ops are what this file is about

struct Shapes {
  const char* name;
  std::int64_t T, D, E, K, S;
};

/// c(i, j) = sum over k of a[i ai + k ak] b[j bj + k bk], in double.
struct Strides {
  std::int64_t ai, ak, bj, bk;
};
__global__ void double_product(double* c, const float* a, const __nv_bfloat16* b, std::int64_t M,
                               std::int64_t N, std::int64_t K, Strides s) {
  const std::int64_t at = ops::cuda::thread_index();
  if (at >= M * N) return;
  double sum = 0.0;
  for (std::int64_t k = 0; k < K; ++k) {
    sum += static_cast<double>(a[at / N * s.ai + k * s.ak]) *
           static_cast<double>(__bfloat162float(b[at % N * s.bj + k * s.bk]));
  }
  c[at] = sum;
}

/// Root mean square and largest error, both relative to the root mean square of the exact values,
/// and the mean of error / value weighted by value^2: a bias.
void print_error(const char* what, const std::vector<float>& got, const std::vector<double>& want) {
  double error = 0.0, square = 0.0, most = 0.0, bias = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double e = got[i] - want[i];
    error += e * e;
    square += want[i] * want[i];
    bias += e * want[i];
    most = std::max(most, std::abs(e));
  }
  const double n = static_cast<double>(want.size());
  std::printf("    %-28s rms %.2e most %.2e bias %+.2e\n", what, std::sqrt(error / square),
              most / std::sqrt(square / n), bias / square);
}

struct Problem {
  Problem(const Exec& on, const Shapes& shapes) : exec{on}, s{shapes} {
    upload_values(exec, aux, std::vector<float>{1e-3F});
    upload_values(exec, z, std::vector<float>{1e-6F});
    const Tensor small = random_tensor(exec, {s.E, s.D}, DType::bf16, 2, 0.02F);
    const Tensor rest = random_tensor(exec, {s.E, s.D}, DType::bf16, 3, 4e-5F);
    std::vector<float> a = download_floats(exec, small), b = download_floats(exec, rest);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i] * 1.000123F;
    upload_values(exec, w, a);
    zero(exec, sums);
    zero(exec, ledger);
  }
  [[nodiscard]] static Tensor make(const Shape& shape, DType dtype = DType::f32) {
    return Tensor{DeviceKind::cuda, shape, dtype};
  }
  const Exec& exec;
  Shapes s;
  Tensor x = random_tensor(exec, {s.T, s.D}, DType::bf16, 1);
  Tensor w = make({s.E, s.D}), dw = make({s.E, s.D}), dx = make({s.T, s.D}, DType::bf16);
  Tensor x32 = make({s.T, s.D}), dx32 = make({s.T, s.D});
  Tensor logits = make({s.T, s.E}), library = make({s.T, s.E}), score = make({s.T, s.E});
  Tensor dlogits = make({s.T, s.E}), dweight = make({s.T, s.K}), weight = make({s.T, s.K});
  Tensor index = make({s.T, s.K}, DType::i32), index2 = make({s.T, s.K}, DType::i32);
  Tensor count = make({s.S, s.E}, DType::i32), mean = make({s.S, s.E});
  Tensor entropy = make({1}), z_sum = make({1}), aux = make({1}), z = make({1});
  Tensor kept = make({s.E}, DType::i32), offset = make({s.E + 1}, DType::i32);
  Tensor row_of_slot = make({s.T, s.K}, DType::i32), slot_of_row = make({s.T * s.K}, DType::i32);
  Tensor ledger = make({s.E}), sums = make({4});
  RouterChunkSums chunks = scratch_router_chunks(exec, s.S, s.T, s.E);
};

void library_logits(const Problem& p) {
  cast(p.exec, p.x32, p.x);
  gemm_nt(p.exec, {.c = p.library, .a = p.x32, .b = p.w});
}
void library_input_gradient(const Problem& p) {
  gemm_nn(p.exec, {.c = p.dx32, .a = p.dlogits, .b = p.w});
  cast(p.exec, p.dx, p.dx32);
}
void library_weight_gradient(const Problem& p) {
  cast(p.exec, p.x32, p.x);
  gemm_tn(p.exec, {.c = p.dw, .a = p.dlogits, .b = p.x32});
}

void choose(const Problem& p, const Tensor& index, const Tensor& logits,
            const RouterChunkSums& chunks = {}) {
  router_forward(p.exec, {.index_TK = index,
                          .weight_TK = p.weight,
                          .score_TE = p.score,
                          .logits_TE = logits,
                          .bias_E = {},
                          .chunks = chunks});
}
void backward(const Problem& p) {
  router_backward(p.exec, {.dlogits_TE = p.dlogits,
                           .dweight_TK = p.dweight,
                           .index_TK = p.index,
                           .weight_TK = p.weight,
                           .score_TE = p.score,
                           .logits_TE = p.logits,
                           .count_SE = p.count,
                           .aux_scale = p.aux,
                           .z_scale = p.z});
}
void statistics(const Problem& p, const RouterChunkSums& chunks) {
  router_statistics(p.exec, {.count_SE = p.count,
                             .mean_score_SE = p.mean,
                             .entropy_sum = p.entropy,
                             .z_sum = p.z_sum,
                             .index_TK = p.index,
                             .score_TE = p.score,
                             .logits_TE = p.logits,
                             .chunks = chunks});
}
void plan(const Problem& p) {
  route_plan(p.exec, {.count_E = p.kept,
                      .offset_E1 = p.offset,
                      .row_of_slot_TK = p.row_of_slot,
                      .slot_of_row_R = p.slot_of_row,
                      .index_TK = p.index});
}
void add_to_ledger(const Problem& p) {
  router_ledger_add(p.exec, {.count_E = p.ledger,
                             .sums = p.sums,
                             .count_SE = p.count,
                             .mean_score_SE = p.mean,
                             .entropy_sum = p.entropy,
                             .z_sum = p.z_sum,
                             .kept_E = p.kept,
                             .group_count_SE = {},
                             .tokens = p.s.T,
                             .slots_per_token = p.s.K});
}
void logits(const Problem& p) {
  router_logits(p.exec, {.logits_TE = p.logits, .x_TD = p.x, .w_ED = p.w});
}
void input_gradient(const Problem& p) {
  router_input_gradient(p.exec, {.dx_TD = p.dx, .dlogits_TE = p.dlogits, .w_ED = p.w});
}
void weight_gradient(const Problem& p) {
  router_weight_gradient(p.exec, {.dw_ED = p.dw, .dlogits_TE = p.dlogits, .x_TD = p.x});
}

std::vector<double> exact(const Problem& p, const Tensor& a, std::int64_t M, std::int64_t N,
                          std::int64_t K, const Strides& strides) {
  std::vector<double> host(static_cast<std::size_t>(M * N));
  const auto bytes = static_cast<std::int64_t>(host.size() * sizeof(double));
  const Tensor c{DeviceKind::cuda, {bytes}, DType::u8};
  double_product<<<ops::cuda::blocks_for(M * N, 256), 256, 0, p.exec.cuda().stream>>>(
      reinterpret_cast<double*>(c.view().bytes_begin()),
      ops::cuda::device_data<float>(ConstTensorView{a}),
      ops::cuda::device_data<__nv_bfloat16>(ConstTensorView{p.x}), M, N, K, strides);
  download(p.exec, host.data(), c.view().bytes_begin(), bytes);
  p.exec.synchronize();
  return host;
}

/// Tokens whose set of experts differs, and the widest gap of logits that was crossed.
void compare_choices(const Problem& p, const std::vector<double>& want) {
  choose(p, p.index2, p.library);
  choose(p, p.index, p.logits, p.chunks);
  const auto ours = download_as<std::int32_t>(p.exec, p.index);
  const auto library = download_as<std::int32_t>(p.exec, p.index2);
  std::int64_t differ = 0;
  double gap = 0.0;
  for (std::int64_t t = 0; t < p.s.T; ++t) {
    const auto first = t * p.s.K;
    const std::set<std::int32_t> a(ours.begin() + first, ours.begin() + first + p.s.K);
    const std::set<std::int32_t> b(library.begin() + first, library.begin() + first + p.s.K);
    if (a == b) continue;
    ++differ;
    for (const std::int32_t e : a) {
      for (const std::int32_t f : b) {
        if (b.count(e) + a.count(f) > 0) continue;
        gap = std::max(gap, std::abs(want[static_cast<std::size_t>(t * p.s.E + e)] -
                                     want[static_cast<std::size_t>(t * p.s.E + f)]));
      }
    }
  }
  std::printf("    tokens with other experts than the library's fp32: %lld of %lld, gap %.1e\n",
              static_cast<long long>(differ), static_cast<long long>(p.s.T), gap);
}

void check(const Problem& p) {
  const Shapes& s = p.s;
  library_logits(p);
  logits(p);
  const auto want = exact(p, p.w, s.E, s.T, s.D, {s.D, 1, s.D, 1});
  std::vector<double> by_token(want.size());
  for (std::int64_t i = 0; i < s.T * s.E; ++i) {
    by_token[static_cast<std::size_t>(i)] = want[static_cast<std::size_t>(i % s.E * s.T + i / s.E)];
  }
  print_error("logits, library fp32", download_floats(p.exec, p.library), by_token);
  print_error("logits", download_floats(p.exec, p.logits), by_token);
  compare_choices(p, by_token);
  const Tensor random = random_tensor(p.exec, {s.T, s.K}, DType::bf16, 5, 1e-3F);
  cast(p.exec, p.dweight, random);
  plan(p);
  statistics(p, p.chunks);
  backward(p);
  library_weight_gradient(p);
  add_to_ledger(p);
  const auto weight_want = exact(p, p.dlogits, s.E, s.D, s.T, {1, s.E, 1, s.D});
  print_error("dw, library fp32", download_floats(p.exec, p.dw), weight_want);
  weight_gradient(p);
  print_error("dw", download_floats(p.exec, p.dw), weight_want);
  library_input_gradient(p);
  const std::vector<float> library = download_floats(p.exec, p.dx);
  input_gradient(p);
  const std::vector<float> ours = download_floats(p.exec, p.dx);
  std::size_t other = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) other += ours[i] != library[i] ? 1 : 0;
  print_error("dx against library", ours, std::vector<double>(library.begin(), library.end()));
  std::printf("    dx rounds to another bf16 in %.3f %%\n",
              100.0 * static_cast<double>(other) / static_cast<double>(ours.size()));
}

void line(const Problem& p, const char* what, double bytes, const std::function<void()>& body) {
  constexpr int kCalls = 20;
  const double ms = milliseconds(p.exec, body, kCalls);
  std::printf("    %-28s %8.1f us %7.0f GB/s\n", what, 1e3 * ms, bytes / ms * 1e-6);
  std::fflush(stdout);
}

void time_ops(const Problem& p) {
  const Shapes& s = p.s;
  const double x = 2.0 * static_cast<double>(s.T * s.D), te = 4.0 * static_cast<double>(s.T * s.E);
  const double w = 4.0 * static_cast<double>(s.E * s.D), tk = 4.0 * static_cast<double>(s.T * s.K);
  line(p, "library logits with cast", x + w + te, [&] { library_logits(p); });
  line(p, "library dx with cast", x + w + te, [&] { library_input_gradient(p); });
  line(p, "library dw with cast", x + w + te, [&] { library_weight_gradient(p); });
  line(p, "logits", x + w + te, [&] { logits(p); });
  line(p, "scores, choice, weights", 2 * te + 2 * tk, [&] { choose(p, p.index, p.logits); });
  line(p, "the same and sums of chunks", 2 * te + 2 * tk,
       [&] { choose(p, p.index, p.logits, p.chunks); });
  line(p, "plan", 3 * tk, [&] { plan(p); });
  line(p, "statistics from the start", 2 * te + tk, [&] { statistics(p, {}); });
  line(p, "statistics of sums", 0.0, [&] { statistics(p, p.chunks); });
  line(p, "ledger", 0.0, [&] { add_to_ledger(p); });
  line(p, "dlogits", 3 * te + 3 * tk, [&] { backward(p); });
  line(p, "dx", x + w + te, [&] { input_gradient(p); });
  line(p, "dw", x + w + te, [&] { weight_gradient(p); });
  line(p, "all of a layer", 3 * x, [&] {
    logits(p);
    choose(p, p.index, p.logits, p.chunks);
    plan(p);
    statistics(p, p.chunks);
    add_to_ledger(p);
    backward(p);
    input_gradient(p);
    weight_gradient(p);
  });
}

}  // namespace
}  // namespace shoal::bench

int main(int argc, char** argv) {
  using namespace shoal;  // NOLINT
  try {
    const Exec exec{DeviceKind::cuda, ArenaPlan{.persistent = 0, .saved = {}, .scratch = 1 << 28}};
    for (const bench::Shapes& s : {bench::Shapes{"fine", 16384, 2048, 64, 8, 8},
                                   bench::Shapes{"long", 32768, 2048, 64, 8, 16},
                                   bench::Shapes{"coarse", 16384, 2048, 8, 2, 8},
                                   bench::Shapes{"small", 16384, 768, 32, 4, 8},
                                   bench::Shapes{"many", 8192, 2048, 256, 8, 4}}) {
      if (argc > 1 && s.name != std::string{argv[1]}) continue;
      std::printf("%s: T %lld d %lld E %lld K %lld\n", s.name, static_cast<long long>(s.T),
                  static_cast<long long>(s.D), static_cast<long long>(s.E),
                  static_cast<long long>(s.K));
      const bench::Problem problem{exec, s};
      bench::check(problem);
      bench::time_ops(problem);
    }
    return 0;
  } catch (const std::exception& e) {
    std::printf("bench_router: %s\n", e.what());
    return 1;
  }
}
