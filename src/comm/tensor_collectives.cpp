#include "shoal/comm/tensor_collectives.hpp"

#include "shoal/base/error.hpp"

namespace shoal::comm {

void TensorCollectives::all_reduce(const Exec& exec, const TensorView& data, ReduceOp op) {
  static_cast<void>(element_type_of(data.dtype()));
  if (exec.is_dry() || only_copies() || data.elements() == 0) return;
  run_all_reduce(exec, data, op);
}

void TensorCollectives::reduce_scatter(const Exec& exec, const ReduceScatter& a) {
  static_cast<void>(element_type_of(a.recv.dtype()));
  expect_same_dtype(a.send, a.recv, "reduce_scatter");
  expect(a.send.elements() == a.recv.elements() * size(),
         "reduce_scatter: send must hold one block a rank");
  if (exec.is_dry() || a.send.elements() == 0) return;
  if (only_copies()) return copy(exec, a.recv.bytes_begin(), a.send.bytes_begin(), a.recv.bytes());
  run_reduce_scatter(exec, a);
}

void TensorCollectives::all_gather(const Exec& exec, const AllGather& a) {
  expect_same_dtype(a.send, a.recv, "all_gather");
  expect(a.recv.elements() == a.send.elements() * size(),
         "all_gather: recv must hold one block a rank");
  if (exec.is_dry() || a.send.elements() == 0) return;
  if (only_copies()) return copy(exec, a.recv.bytes_begin(), a.send.bytes_begin(), a.recv.bytes());
  run_all_gather(exec, a);
}

void TensorCollectives::broadcast(const Exec& exec, const TensorView& data, int root) {
  expect(root >= 0 && root < size(), "broadcast: the root is not in the group");
  if (exec.is_dry() || only_copies() || data.elements() == 0) return;
  run_broadcast(exec, data, root);
}

ElementType element_type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ElementType::f32;
    case DType::bf16:
      return ElementType::bf16;
    case DType::f16:
      return ElementType::f16;
    case DType::f64:
      return ElementType::f64;
    case DType::i32:
      return ElementType::i32;
    case DType::i64:
      return ElementType::i64;
    case DType::u8:
      return ElementType::u8;
    case DType::u32:
      return ElementType::u32;
    case DType::u16:
      break;
  }
  fail("comm", "16-bit unsigned elements are not reduced over ranks");
}

}  // namespace shoal::comm
