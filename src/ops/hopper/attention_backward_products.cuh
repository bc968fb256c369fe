#pragma once
// The five products of backward attention for one tile of queries, as wgmma reads them: which
// operand lies where. A warpgroup owns 64 keys; scores stand transposed, keys by queries.
#include "ops/hopper/attention_backward_plan.cuh"

namespace shoal::ops::cuda::hopper {

/// A tile in boxes of 64 columns; a row of a box is 128 bytes.
struct BoxTile {
  unsigned address;
  unsigned box_bytes;
  static constexpr unsigned kRow = 128, kEightRows = 1024;

  /// Rows from `row` on are the outer index, columns from `column` on the inner one.
  [[nodiscard]] __device__ std::uint64_t rows_outer(int row, int column) const {
    const auto box = static_cast<unsigned>(column / kBoxRow);
    return operand_descriptor(address + box * box_bytes + static_cast<unsigned>(row) * kRow +
                                  static_cast<unsigned>(column % kBoxRow) * 2,
                              16, kEightRows);
  }
  /// Rows from `row` on are the inner index, columns from `column` on, a multiple of 64, the outer.
  [[nodiscard]] __device__ std::uint64_t rows_inner(int row, int column) const {
    const auto box = static_cast<unsigned>(column / kBoxRow);
    return operand_descriptor(address + box * box_bytes + static_cast<unsigned>(row) * kRow,
                              box_bytes, kEightRows);
  }
};

/// sums[64 keys, kQueries] = rows of `keys` from `row` on times the rows of `queries`; K Q^T or
/// V dO^T.
template <class P>
__device__ inline void multiply_keys(float (&sums)[P::kQueries / 2], const BoxTile& keys, int row,
                                     const BoxTile& queries) {
  using Elem = typename P::Elem;
  multiply_add<Elem, false, false, false>(sums, keys.rows_outer(row, 0), queries.rows_outer(0, 0));
#pragma unroll
  for (int i = kProductInner; i < P::kHeadDim; i += kProductInner) {
    multiply_add<Elem, false, false>(sums, keys.rows_outer(row, i), queries.rows_outer(0, i));
  }
}

/// sums[64 keys, kHeadDim] += weights[64 keys, kQueries] times `queries`; P^T dO or dS^T Q.
template <class P>
__device__ inline void add_weighted(float (&sums)[P::kHeadDim / 2],
                                    const RowsOperand (&weights)[P::kQueries / kProductInner],
                                    const BoxTile& queries) {
#pragma unroll
  for (int i = 0; i < P::kQueries / kProductInner; ++i) {
    multiply_add<typename P::Elem, true>(sums, weights[i],
                                         queries.rows_inner(i * kProductInner, 0));
  }
}

/// sums[64 queries, 64 columns of the head] = dS K over the keys of the block.
template <class P>
__device__ inline void multiply_ds(float (&sums)[P::kDqSums], const BoxTile& ds, int query,
                                   const BoxTile& keys, int column) {
  using Elem = typename P::Elem;
  multiply_add<Elem, true, true, false>(sums, ds.rows_inner(0, query), keys.rows_inner(0, column));
#pragma unroll
  for (int i = kProductInner; i < P::kKeys; i += kProductInner) {
    multiply_add<Elem, true, true>(sums, ds.rows_inner(i, query), keys.rows_inner(i, column));
  }
}

}  // namespace shoal::ops::cuda::hopper
