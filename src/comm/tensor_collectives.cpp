#include "shoal/comm/tensor_collectives.hpp"

#include <algorithm>
#include <numeric>

#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

/// `view` holds exactly the rows that `counts` announces, one count a rank.
void expect_blocks(const ConstTensorView& view, std::span<const std::int64_t> counts, int ranks,
                   std::string_view what) {
  expect(std::ssize(counts) == ranks, "all_to_all_rows: one count a rank");
  expect(std::all_of(counts.begin(), counts.end(), [](std::int64_t n) { return n >= 0; }),
         "all_to_all_rows: a count is negative");
  expect(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) == view.dim(0),
         "all_to_all_rows: " + std::string{what} + " differs from the sum of its counts");
}

void expect_same_rows(const ConstTensorView& a, const ConstTensorView& b) {
  bool same = a.shape().rank() == b.shape().rank();
  for (int i = 1; same && i < a.shape().rank(); ++i) same = a.dim(i) == b.dim(i);
  expect(same, "all_to_all_rows: rows of send and recv differ in shape");
}

void expect_contract(const ReduceScatter& a, int ranks) {
  static_cast<void>(element_type_of(a.recv.dtype()));
  expect_same_dtype(a.send, a.recv, "reduce_scatter");
  expect(a.send.elements() == a.recv.elements() * ranks,
         "reduce_scatter: send must hold one block a rank");
}

void expect_contract(const AllGather& a, int ranks) {
  expect_same_dtype(a.send, a.recv, "all_gather");
  expect(a.recv.elements() == a.send.elements() * ranks,
         "all_gather: recv must hold one block a rank");
}

}  // namespace

void TensorCollectives::all_reduce(const Exec& exec, const TensorView& data, ReduceOp op) {
  static_cast<void>(element_type_of(data.dtype()));
  if (exec.is_dry() || only_copies() || data.elements() == 0) return;
  run_all_reduce(exec, data, op);
}

void TensorCollectives::reduce_scatter(const Exec& exec, const ReduceScatter& a) {
  expect_contract(a, size());
  if (exec.is_dry() || a.send.elements() == 0) return;
  if (only_copies()) return copy(exec, a.recv.bytes_begin(), a.send.bytes_begin(), a.recv.bytes());
  run_reduce_scatter(exec, a);
}

void TensorCollectives::all_gather(const Exec& exec, const AllGather& a) {
  expect_contract(a, size());
  if (exec.is_dry() || a.send.elements() == 0) return;
  if (only_copies()) return copy(exec, a.recv.bytes_begin(), a.send.bytes_begin(), a.recv.bytes());
  run_all_gather(exec, a);
}

TensorCollectives::Posted TensorCollectives::post_all_reduce(const Exec& exec,
                                                             const TensorView& data, ReduceOp op,
                                                             const TensorView& workspace) {
  static_cast<void>(element_type_of(data.dtype()));
  if (exec.is_dry() || only_copies() || data.elements() == 0) return nullptr;
  return run_post_all_reduce(exec, data, op, workspace);
}

TensorCollectives::Posted TensorCollectives::post_reduce_scatter(const Exec& exec,
                                                                 const ReduceScatter& a,
                                                                 const TensorView& workspace) {
  expect_contract(a, size());
  if (!exec.is_dry() && !only_copies() && a.send.elements() > 0) {
    return run_post_reduce_scatter(exec, a, workspace);
  }
  reduce_scatter(exec, a);
  return nullptr;
}

TensorCollectives::Posted TensorCollectives::post_all_gather(const Exec& exec, const AllGather& a) {
  expect_contract(a, size());
  if (!exec.is_dry() && !only_copies() && a.send.elements() > 0)
    return run_post_all_gather(exec, a);
  all_gather(exec, a);
  return nullptr;
}

TensorCollectives::Posted TensorCollectives::run_post_all_reduce(const Exec& exec,
                                                                 const TensorView& data,
                                                                 ReduceOp op, const TensorView&) {
  run_all_reduce(exec, data, op);
  return nullptr;
}

TensorCollectives::Posted TensorCollectives::run_post_reduce_scatter(const Exec& exec,
                                                                     const ReduceScatter& args,
                                                                     const TensorView&) {
  run_reduce_scatter(exec, args);
  return nullptr;
}

TensorCollectives::Posted TensorCollectives::run_post_all_gather(const Exec& exec,
                                                                 const AllGather& args) {
  run_all_gather(exec, args);
  return nullptr;
}

void TensorCollectives::broadcast(const Exec& exec, const TensorView& data, int root) {
  expect(root >= 0 && root < size(), "broadcast: the root is not in the group");
  if (exec.is_dry() || only_copies() || data.elements() == 0) return;
  run_broadcast(exec, data, root);
}

void TensorCollectives::all_to_all_rows(const Exec& exec, const AllToAllRows& a) {
  expect_same_dtype(a.send, a.recv, "all_to_all_rows");
  expect_same_rows(a.send, a.recv);
  expect_blocks(a.send, a.send_rows, size(), "send");
  expect_blocks(a.recv, a.recv_rows, size(), "recv");
  const auto me = static_cast<std::size_t>(rank());
  expect(a.send_rows[me] == a.recv_rows[me], "all_to_all_rows: the own block differs in size");
  if (!exec.is_dry() && !only_copies()) return run_all_to_all_rows(exec, a);
  if (!exec.is_dry()) copy(exec, a.recv.bytes_begin(), a.send.bytes_begin(), a.send.bytes());
  if (a.overlap) a.overlap();
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
