#include "ops/both_devices.hpp"
#include "shoal/ops/gemm.hpp"
#include "shoal/ops/grouped_swiglu.hpp"
#include "shoal/ops/swiglu.hpp"

namespace shoal::ops {
namespace {

struct Case {
  std::vector<std::int32_t> offsets;
  std::int64_t spare, D, F;
  DType elem;
};

std::vector<Case> cases() {
  return {
      {{0, 3, 3, 9}, 2, 5, 7, DType::f32},
      {{0, 0, 0}, 70, 64, 64, DType::bf16},
      {{0, 65, 66, 195, 195, 226}, 17, 72, 136, DType::bf16},
      {{0, 128, 300}, 0, 128, 256, DType::f16},
      {{0, 90}, 1, 200, 312, DType::bf16},
      {{0, 10, 90}, 0, 66, 70, DType::bf16},
  };
}

using GroupedSwigluTest = test::BothDevices;

/// One op must give what the two that it stands for give, bit for bit.
TEST_P(GroupedSwigluTest, EqualsProductThenActivation) {
  for (const Case& x : cases()) {
    const auto E = static_cast<std::int64_t>(x.offsets.size()) - 1;
    const std::int64_t R = x.offsets.back() + x.spare;
    SCOPED_TRACE("D " + std::to_string(x.D) + " F " + std::to_string(x.F));
    const Tensor offsets = test::from_ints(exec_, {E + 1}, x.offsets);
    const ConstTensorView limit = ConstTensorView{offsets}.rows(E, 1);
    const Tensor rows = test::normal(exec_, {R, x.D}, x.elem, 1);
    const Tensor up = test::normal(exec_, {E, 2 * x.F, x.D}, x.elem, 2, 0.2F);
    const auto blank = [&](std::int64_t columns) {
      return test::poisoned(exec_, {R, columns}, x.elem);
    };
    const Tensor h = blank(x.F), gate_up = blank(2 * x.F);
    grouped_swiglu_forward(exec_, {.h_RF = h,
                                   .gate_up_RF = gate_up,
                                   .rows_RD = rows,
                                   .gate_up_EFD = up,
                                   .offsets_E1 = offsets});
    const Tensor h2 = blank(x.F), gate_up2 = blank(2 * x.F);
    grouped_gemm_nt(exec_, {.c = gate_up2, .a = rows, .b = up, .offsets_E1 = offsets});
    swiglu_forward(exec_, {.h_RF = h2, .gate_up_RF = gate_up2, .rows_limit = limit});
    const auto same = [&](const Tensor& got, const Tensor& want) {
      EXPECT_TRUE(test::all_equal(download_floats(exec_, got), download_floats(exec_, want)));
    };
    same(gate_up, gate_up2);
    same(h, h2);
  }
}

TEST_P(GroupedSwigluTest, RefusesWeightsOfAnotherWidth) {
  const Tensor offsets = test::from_ints(exec_, {2}, {0, 4});
  const Tensor rows = test::normal(exec_, {4, 8}, DType::f32, 1);
  const Tensor gate_up = test::normal(exec_, {4, 8}, DType::f32, 2);
  const Tensor h = test::normal(exec_, {4, 4}, DType::f32, 3);
  const Tensor weight = test::normal(exec_, {1, 6, 8}, DType::f32, 4);
  EXPECT_THROW(grouped_swiglu_forward(exec_, {h, gate_up, rows, weight, offsets}), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, GroupedSwigluTest, test::both_devices(), test::device_name);

}  // namespace
}  // namespace shoal::ops
