// bench_grouped: checks the products of an expert layer on warpgroup instructions against those on
// mma.sync, at edge shapes, then prints the time of each at the shapes of models. Needs a GPU of
// compute capability 9.0. Usage: bench_grouped [check | time [layer]]
#include <algorithm>
#include <functional>
#include <string>

#include "bench/grouped_problem.cuh"
#include "shoal/ops/grouped_swiglu.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::bench {

void time_all(const Exec& exec, const std::string& only);  // grouped_timing.cu

namespace {

using ops::Accumulate;
using ops::GroupedGemm;
using ops::cuda::GroupedCall;
using ops::cuda::GroupedForm;

struct Case {
  std::vector<std::int32_t> offsets;
  std::int64_t spare, n, k;
  DType dtype;
};

std::vector<Case> cases() {
  const auto bf16 = DType::bf16, f16 = DType::f16;
  return {
      {{0, 128}, 0, 256, 64, bf16},
      {{0, 128}, 0, 256, 256, bf16},
      {{0, 128}, 0, 128, 128, bf16},
      {{0, 100}, 0, 256, 512, bf16},
      {{0, 512}, 0, 1024, 1024, f16},
      {{0, 65, 66, 195, 195, 226}, 17, 136, 72, bf16},
      {{0, 0, 0, 0}, 70, 136, 72, bf16},
      {{0, 0, 300, 300, 1000}, 5, 264, 200, f16},
      {random_offsets(8192, 64, 1.5, 1), 100, 768, 512, bf16},
      {random_offsets(4096, 128, 2.5, 2), 0, 640, 1408, bf16},
      {{0, 1500, 1500, 5000}, 9, 1096, 1032, bf16},
      {random_offsets(30000, 8, 0.5, 3), 3, 2048, 1536, f16},
  };
}

const char* name_of(GroupedForm form) {
  return form == GroupedForm::nt ? "nt" : form == GroupedForm::nn ? "nn" : "tn";
}

bool report(const std::string& what, bool good, const Difference& d) {
  std::printf("%-34s relative %.1e not equal %lld %s\n", what.c_str(), d.relative,
              static_cast<long long>(d.not_equal), good ? "ok" : "WRONG");
  std::fflush(stdout);
  return good;
}

template <GroupedForm kForm>
bool check_form(const Exec& exec, const Case& x, bool add) {
  constexpr bool kMatrices = kForm == GroupedForm::tn;
  const auto E = static_cast<std::int64_t>(x.offsets.size()) - 1, R = x.offsets.back() + x.spare;
  const std::int64_t width = kForm == GroupedForm::nt ? x.n : x.k;
  const Tensor a = random_tensor(exec, {R, kForm == GroupedForm::nt ? x.k : x.n}, x.dtype, 1);
  const Tensor b =
      random_tensor(exec, kMatrices ? Shape{R, x.k} : Shape{E, x.n, x.k}, x.dtype, 2, 0.05F);
  if (x.spare > 0) {  // rows of no expert must not be read
    poison(exec, a.view().rows(x.offsets.back(), x.spare));
    if (kMatrices) poison(exec, b.view().rows(x.offsets.back(), x.spare));
  }
  const Shape c_shape = kMatrices ? Shape{E, x.n, x.k} : Shape{R, width};
  const DType c_dtype = kMatrices ? DType::f32 : x.dtype;
  const Tensor c{DeviceKind::cuda, c_shape, c_dtype}, reference{DeviceKind::cuda, c_shape, c_dtype};
  const Tensor again{DeviceKind::cuda, c_shape, c_dtype};
  const Tensor offsets{DeviceKind::cuda, {E + 1}, DType::i32};
  upload_values(exec, offsets, x.offsets);
  const auto run = [&](const Tensor& out, auto product) {
    poison(exec, out);
    if (add) zero(exec, out.view().bytes_begin(), out.view().bytes());
    const GroupedGemm g{.c = out, .a = a, .b = b, .offsets_E1 = offsets};
    const GroupedCall call{.a = a.view().bytes_begin(),
                           .b = b.view().bytes_begin(),
                           .c = out.view().bytes_begin(),
                           .offsets = offsets.view().data<std::int32_t>(),
                           .experts = static_cast<int>(E),
                           .n = x.n,
                           .k = x.k,
                           .add = add};
    for (int times = 0; times < (add ? 2 : 1); ++times) product(exec, call, g);
  };
  run(reference, ops::cuda::grouped_mma<kForm>);
  run(c, ops::cuda::grouped_wgmma<kForm>);
  run(again, ops::cuda::grouped_wgmma<kForm>);
  const Difference d = compare(exec, c, reference), bits = compare(exec, c, again);
  char text[96];
  std::snprintf(text, sizeof text, "%s%s R %lld E %lld n %lld k %lld", name_of(kForm),
                add ? " add" : "", static_cast<long long>(R), static_cast<long long>(E),
                static_cast<long long>(x.n), static_cast<long long>(x.k));
  return report(text, d.relative < 3e-3 && bits.not_equal == 0, d);
}

/// The fused kernel against the two ops: equal in every bit once the products are.
bool check_swiglu(const Exec& exec, const Case& x) {
  const auto E = static_cast<std::int64_t>(x.offsets.size()) - 1, R = x.offsets.back() + x.spare;
  const std::int64_t F = x.n, D = x.k;
  const auto make = [&](Shape shape) { return Tensor{DeviceKind::cuda, shape, x.dtype}; };
  const Tensor offsets{DeviceKind::cuda, {E + 1}, DType::i32};
  upload_values(exec, offsets, x.offsets);
  const ConstTensorView limit = ConstTensorView{offsets}.rows(E, 1);
  const Tensor rows = random_tensor(exec, {R, D}, x.dtype, 3);
  const Tensor up = random_tensor(exec, {E, 2 * F, D}, x.dtype, 4, 0.05F);
  const Tensor h = make({R, F}), h2 = make({R, F});
  const Tensor gate_up = make({R, 2 * F}), gate_up2 = make({R, 2 * F});
  for (const Tensor* t : {&h, &h2, &gate_up, &gate_up2}) poison(exec, *t);
  const bool taken = ops::cuda::grouped_swiglu_forward(exec, {h, gate_up, rows, up, offsets});
  ops::grouped_gemm_nt(exec, {.c = gate_up2, .a = rows, .b = up, .offsets_E1 = offsets});
  ops::swiglu_forward(exec, {.h_RF = h2, .gate_up_RF = gate_up2, .rows_limit = limit});
  const Difference in_gate_up = compare(exec, gate_up, gate_up2), in_h = compare(exec, h, h2);
  const bool good = taken && in_gate_up.not_equal + in_h.not_equal == 0;
  return report("swiglu gate_up", good, in_gate_up) && report("swiglu h", good, in_h);
}

bool check_all(const Exec& exec) {
  int wrong = 0;
  for (const Case& x : cases()) {
    wrong += !check_form<GroupedForm::nt>(exec, x, false);
    wrong += !check_form<GroupedForm::nn>(exec, x, false);
    wrong += !check_form<GroupedForm::tn>(exec, x, false);
    wrong += !check_form<GroupedForm::tn>(exec, x, true);
    wrong += !check_swiglu(exec, x);
  }
  std::printf("%d wrong\n", wrong);
  return wrong == 0;
}

}  // namespace
}  // namespace shoal::bench

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 1 ? argv[1] : "all";
    const shoal::Exec exec{shoal::DeviceKind::cuda, {}};
    const bool good = what == "time" || shoal::bench::check_all(exec);
    if (what != "check") shoal::bench::time_all(exec, argc > 2 ? argv[2] : "");
    return good ? 0 : 1;
  } catch (const std::exception& e) {
    std::printf("bench_grouped: %s\n", e.what());
    return 1;
  }
}
