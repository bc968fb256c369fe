#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "shoal/io/h5_types.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/parallel/shard_plan.hpp"

/// Rows of a slice as boxes: what hyperslabs of files can say. Rows are those of RowShard: all
/// dimensions but the last flattened; the rows of a vector are its elements.
namespace shoal::train {

/// A box of the global tensor and where it lies in this rank's local tensor.
struct BoxPair {
  io::Slab local;
  io::Slab global;
};
/// Rows of a slice as boxes, each cut along its slow dimensions to about `max_elements`.
[[nodiscard]] std::vector<BoxPair> boxes(const nn::Slice& slice, const parallel::RowRange& rows,
                                         std::int64_t max_elements);
[[nodiscard]] parallel::RowRange all_rows(const Shape& local);
/// [rows, elements of a row], or [rows] of a vector: how a writer stores some rows.
[[nodiscard]] Shape stored_shape(const Shape& local, const parallel::RowRange& rows);

/// A box of the global tensor and where it lies in the stored rows.
struct StoredBox {
  io::Slab stored;
  io::Slab global;
};
/// The boxes of stored rows; together they cover each of their elements once.
[[nodiscard]] std::vector<StoredBox> stored_boxes(const nn::Slice& slice,
                                                  const parallel::RowRange& rows);

/// Calls f for each contiguous run of a box of a local tensor.
struct BoxRun {
  std::int64_t local = 0;   ///< element of the local tensor
  std::int64_t in_box = 0;  ///< element of the box
  std::int64_t count = 0;
};
void for_each_run(const Shape& local_shape, const io::Slab& box,
                  const std::function<void(const BoxRun&)>& f);

}  // namespace shoal::train
