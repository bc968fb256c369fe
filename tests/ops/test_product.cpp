#include <gtest/gtest.h>
#include <omp.h>

#include "ops/product_cpu.hpp"
#include "support/tensors.hpp"

namespace shoal::ops::cpu {
namespace {

struct Case {
  std::int64_t rows, columns, inner;
};

std::string text(const Case& x, const ProductForm& form, ProductKernel kernel) {
  return std::to_string(x.rows) + "x" + std::to_string(x.columns) + "x" + std::to_string(x.inner) +
         (form.a_transposed ? " a^T" : " a") + (form.b_transposed ? " b^T " : " b ") +
         std::string{name(form.elem)} + " to " + std::string{name(form.c)} +
         (form.accumulate == Accumulate::add ? " add" : "") + " kernel " +
         std::to_string(static_cast<int>(kernel));
}

class ProductTest : public testing::Test {
 protected:
  std::vector<float> run(const Case& x, const ProductForm& form, ProductKernel kernel) {
    const Tensor a = test::normal(exec_, {x.rows, x.inner}, form.elem, 1);  // either way round
    const Tensor b = test::normal(exec_, {x.inner, x.columns}, form.elem, 2);
    const Tensor c = form.accumulate == Accumulate::add
                         ? test::normal(exec_, {x.rows, x.columns}, form.c, 3)
                         : test::poisoned(exec_, {x.rows, x.columns}, form.c);
    const Product product{.a = a.view().bytes_begin(),
                          .b = b.view().bytes_begin(),
                          .c = c.view().bytes_begin(),
                          .rows = x.rows,
                          .columns = x.columns,
                          .inner = x.inner};
    const ScratchScope scope{exec_};
    run_products({&product, 1}, form, product_scratch(exec_), kernel);
    return download_floats(exec_, c);
  }

  /// Calls `body` with every form of a product of this type.
  template <class Body>
  static void for_each_form(DType elem, const Body& body) {
    for (const auto& [a_transposed, b_transposed] :
         {std::pair{false, true}, std::pair{false, false}, std::pair{true, false}}) {
      for (const DType c : {elem, DType::f32}) {
        for (const auto accumulate : {Accumulate::overwrite, Accumulate::add}) {
          body(ProductForm{a_transposed, b_transposed, elem, c, accumulate});
        }
      }
    }
  }

  Exec exec_ = test::make_exec(DeviceKind::cpu);
};

/// Around the panel (16), the slice (8), the block (32, 48), the tile (512) and the inner block
/// (384 fp32, 768 bf16), and nothing at all.
const std::vector<Case> kCases = {{1, 1, 1},      {7, 15, 31},  {8, 16, 32},
                                  {9, 17, 33},    {33, 49, 65}, {513, 48, 385},
                                  {40, 530, 769}, {5, 3, 0},    {31, 96, 1537}};

TEST_F(ProductTest, EveryKernelAgreesWithBlas) {
  for (const DType elem : {DType::f32, DType::bf16, DType::f16}) {
    for (const ProductKernel kernel : product_kernels(elem)) {
      for_each_form(elem, [&](const ProductForm& form) {
        for (const Case& x : kCases) {
          EXPECT_TRUE(test::all_near(run(x, form, kernel), run(x, form, ProductKernel::blas),
                                     test::tolerance(form.c, std::max<std::int64_t>(x.inner, 1))))
              << text(x, form, kernel);
        }
      });
    }
  }
}

TEST_F(ProductTest, BitsDoNotDependOnTheNumberOfThreads) {
  const int threads = omp_get_max_threads();
  const Case x{300, 700, 900};
  for (const DType elem : {DType::f32, DType::bf16}) {
    for (const ProductKernel kernel : product_kernels(elem)) {
      const ProductForm form{.b_transposed = true, .elem = elem, .c = DType::f32};
      omp_set_num_threads(1);
      const auto one = run(x, form, kernel);
      omp_set_num_threads(3);
      const auto three = run(x, form, kernel);
      omp_set_num_threads(threads);
      EXPECT_TRUE(test::all_equal(three, one)) << text(x, form, kernel);
    }
  }
}

TEST(ProductKernels, EndWithTheOneOfEveryProcessor) {
  for (const DType elem : {DType::f32, DType::bf16, DType::f16}) {
    EXPECT_EQ(product_kernels(elem).back(), ProductKernel::blas);
  }
}

}  // namespace
}  // namespace shoal::ops::cpu
