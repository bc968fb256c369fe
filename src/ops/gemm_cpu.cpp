#include "ops/product_cpu.hpp"
#include "shoal/ops/gemm.hpp"

namespace shoal::ops::cpu {
namespace {

void run(const Exec& exec, const Gemm& g, std::int64_t inner, ProductForm form) {
  const ScratchScope scope{exec};
  const TensorView panels = product_scratch(exec);
  const Product product{.a = g.a.bytes_begin(),
                        .b = g.b.bytes_begin(),
                        .c = g.c.bytes_begin(),
                        .rows = g.c.dim(0),
                        .columns = g.c.dim(1),
                        .inner = inner};
  run_products({&product, 1}, form, panels);
}

ProductForm form_of(const Gemm& g, bool a_transposed, bool b_transposed) {
  return {.a_transposed = a_transposed,
          .b_transposed = b_transposed,
          .elem = g.a.dtype(),
          .c = g.c.dtype(),
          .accumulate = g.accumulate};
}

}  // namespace

void gemm_nt(const Exec& exec, const Gemm& g) {
  run(exec, g, g.a.dim(1), form_of(g, false, true));
}
void gemm_nn(const Exec& exec, const Gemm& g) {
  run(exec, g, g.a.dim(1), form_of(g, false, false));
}
void gemm_tn(const Exec& exec, const Gemm& g) {
  run(exec, g, g.a.dim(0), form_of(g, true, false));
}

}  // namespace shoal::ops::cpu
