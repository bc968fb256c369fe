#include <vector>

#include "ops/product_cpu.hpp"
#include "shoal/ops/gemm.hpp"

namespace shoal::ops::cpu {
namespace {

ProductForm form_of(const GroupedGemm& g, bool a_transposed, bool b_transposed) {
  return {.a_transposed = a_transposed,
          .b_transposed = b_transposed,
          .elem = g.a.dtype(),
          .c = g.c.dtype(),
          .accumulate = g.accumulate};
}

/// Expert e's rows of a meet matrix e of b and give rows of c.
void run_rows(const Exec& exec, const GroupedGemm& g, ProductForm form) {
  const auto* offset = g.offsets_E1.data<std::int32_t>();
  std::vector<Product> products;
  for (std::int64_t e = 0; e < g.b.dim(0); ++e) {
    products.push_back({.a = g.a.bytes_begin() + offset[e] * g.a.dim(1) * size_of(form.elem),
                        .b = g.b.rows(e, 1).bytes_begin(),
                        .c = g.c.bytes_begin() + offset[e] * g.c.dim(1) * size_of(form.c),
                        .rows = offset[e + 1] - offset[e],
                        .columns = g.c.dim(1),
                        .inner = g.a.dim(1)});
  }
  const ScratchScope scope{exec};
  run_products(products, form, product_scratch(exec));
}

}  // namespace

void grouped_gemm_nt(const Exec& exec, const GroupedGemm& g) {
  run_rows(exec, g, form_of(g, false, true));
}
void grouped_gemm_nn(const Exec& exec, const GroupedGemm& g) {
  run_rows(exec, g, form_of(g, false, false));
}

void grouped_gemm_tn(const Exec& exec, const GroupedGemm& g) {
  const auto* offset = g.offsets_E1.data<std::int32_t>();
  std::vector<Product> products;
  for (std::int64_t e = 0; e < g.c.dim(0); ++e) {
    products.push_back({.a = g.a.bytes_begin() + offset[e] * g.a.dim(1) * size_of(g.a.dtype()),
                        .b = g.b.bytes_begin() + offset[e] * g.b.dim(1) * size_of(g.b.dtype()),
                        .c = g.c.rows(e, 1).bytes_begin(),
                        .rows = g.c.dim(1),
                        .columns = g.c.dim(2),
                        .inner = offset[e + 1] - offset[e]});
  }
  const ScratchScope scope{exec};
  run_products(products, form_of(g, true, false), product_scratch(exec));
}

}  // namespace shoal::ops::cpu
