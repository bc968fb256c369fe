#include "train/boxes.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "shoal/base/error.hpp"

namespace shoal::train {
namespace {

using parallel::RowRange;

std::int64_t at(const std::vector<std::int64_t>& v, int d) {
  return v[static_cast<std::size_t>(d)];
}

/// All ways to pick one block in each dimension.
std::vector<std::vector<std::int64_t>> block_choices(const nn::Slice& slice) {
  std::vector<std::vector<std::int64_t>> choices = {{}};
  for (const nn::SliceDim& dim : slice) {
    // Blocks without a gap between them are one.
    const std::int64_t blocks =
        dim.stride == dim.block ? std::min<std::int64_t>(dim.count, 1) : dim.count;
    std::vector<std::vector<std::int64_t>> longer;
    for (const auto& choice : choices) {
      for (std::int64_t b = 0; b < blocks; ++b) {
        longer.push_back(choice);
        longer.back().push_back(b);
      }
    }
    choices = std::move(longer);
  }
  return choices;
}

BoxPair box_of(const nn::Slice& slice, const std::vector<std::int64_t>& choice) {
  BoxPair pair;
  for (std::size_t d = 0; d < slice.size(); ++d) {
    const nn::SliceDim& dim = slice[d];
    const std::int64_t length = dim.stride == dim.block ? dim.size() : dim.block;
    pair.local.start.push_back(choice[d] * dim.block);
    pair.local.count.push_back(length);
    pair.global.start.push_back(dim.start + choice[d] * dim.stride);
    pair.global.count.push_back(length);
  }
  return pair;
}

/// The largest box that starts at row `row` and ends before `end`, over whole inner dimensions.
io::Slab row_slab(const Shape& local, std::int64_t row, std::int64_t end) {
  const int leading = local.rank() - 1;
  io::Slab slab;
  std::int64_t inner = 1, rest = row;
  for (int d = 0; d < leading; ++d) inner *= local[d];
  bool open = true;  // dimensions after the first that is taken in part are taken whole
  for (int d = 0; d < leading; ++d) {
    inner /= local[d];
    const std::int64_t index = open ? rest / inner : 0;
    std::int64_t count = open ? 1 : local[d];
    rest %= inner;
    if (open && rest == 0 && end - row >= inner) {
      count = std::min(local[d] - index, (end - row) / inner);
      open = false;
    }
    slab.start.push_back(index);
    slab.count.push_back(count);
  }
  slab.start.push_back(0);
  slab.count.push_back(local.back());
  return slab;
}

/// Boxes of the local tensor that together are these rows.
std::vector<io::Slab> row_slabs(const Shape& local, const RowRange& rows) {
  if (local.rank() == 0) return {{}};
  if (local.rank() == 1) return {{.start = {rows.first}, .count = {rows.count}}};
  std::vector<io::Slab> slabs;
  for (std::int64_t row = rows.first; row < rows.first + rows.count;) {
    slabs.push_back(row_slab(local, row, rows.first + rows.count));
    std::int64_t taken = 1;
    for (int d = 0; d + 1 < local.rank(); ++d) taken *= at(slabs.back().count, d);
    row += taken;
  }
  return slabs;
}

std::optional<BoxPair> intersect(const BoxPair& box, const io::Slab& slab) {
  BoxPair out = box;
  for (std::size_t d = 0; d < slab.start.size(); ++d) {
    const std::int64_t begin = std::max(box.local.start[d], slab.start[d]);
    const std::int64_t end =
        std::min(box.local.start[d] + box.local.count[d], slab.start[d] + slab.count[d]);
    if (begin >= end) return std::nullopt;
    out.local.start[d] = begin;
    out.global.start[d] += begin - box.local.start[d];
    out.local.count[d] = out.global.count[d] = end - begin;
  }
  return out;
}

/// Indices [first, first + count) of dimension d of a box.
BoxPair part_of(const BoxPair& box, int d, std::int64_t first, std::int64_t count) {
  const auto i = static_cast<std::size_t>(d);
  BoxPair part = box;
  part.local.start[i] += first;
  part.global.start[i] += first;
  part.local.count[i] = part.global.count[i] = count;
  return part;
}

void cut(const BoxPair& box, int d, std::int64_t max_elements, std::vector<BoxPair>& out) {
  const int rank = static_cast<int>(box.local.count.size());
  if (rank == 0) return out.push_back(box);
  const std::int64_t rows = at(box.local.count, d);
  const std::int64_t row = std::max<std::int64_t>(1, box.local.elements() / rows);
  const std::int64_t step = std::max<std::int64_t>(1, max_elements / row);
  for (std::int64_t first = 0; first < rows; first += step) {
    const BoxPair part = part_of(box, d, first, std::min(step, rows - first));
    if (row > max_elements && d + 1 < rank) {
      cut(part, d + 1, max_elements, out);
    } else {
      out.push_back(part);
    }
  }
}

/// The first dimension along which a box must be cut for its rows to follow each other; -1: none.
int broken_dimension(const Shape& local, const io::Slab& box) {
  int first = -1;  // with more than one index
  for (int d = 0; d + 1 < local.rank(); ++d) {
    if (first >= 0 && at(box.count, d) != local[d]) return first;
    if (first < 0 && at(box.count, d) > 1) first = d;
  }
  return -1;
}

void store(const Shape& local, const RowRange& rows, const BoxPair& box,
           std::vector<StoredBox>& out) {
  if (local.rank() <= 1) {
    StoredBox stored{.stored = box.local, .global = box.global};
    for (std::int64_t& start : stored.stored.start) start -= rows.first;
    return out.push_back(std::move(stored));
  }
  const int broken = broken_dimension(local, box.local);
  if (broken >= 0) {
    for (std::int64_t i = 0; i < at(box.local.count, broken); ++i) {
      store(local, rows, part_of(box, broken, i, 1), out);
    }
    return;
  }
  std::int64_t row = 0, count = 1;
  for (int d = 0; d + 1 < local.rank(); ++d) {
    row = row * local[d] + at(box.local.start, d);
    count *= at(box.local.count, d);
  }
  out.push_back({.stored = {.start = {row - rows.first, box.local.start.back()},
                            .count = {count, box.local.count.back()}},
                 .global = box.global});
}

}  // namespace

RowRange all_rows(const Shape& local) {
  return {.first = 0, .count = local.rank() <= 1 ? local.elements() : local.rows()};
}

Shape stored_shape(const Shape& local, const RowRange& rows) {
  return local.rank() <= 1 ? Shape{rows.count} : Shape{rows.count, local.back()};
}

std::vector<BoxPair> boxes(const nn::Slice& slice, const RowRange& rows,
                           std::int64_t max_elements) {
  std::vector<BoxPair> out;
  const Shape local = nn::local_shape(slice);
  const std::vector<io::Slab> slabs = row_slabs(local, rows);
  for (const auto& choice : block_choices(slice)) {
    const BoxPair block = box_of(slice, choice);
    for (const io::Slab& slab : slabs) {
      if (const auto box = intersect(block, slab)) cut(*box, 0, max_elements, out);
    }
  }
  return out;
}

std::vector<StoredBox> stored_boxes(const nn::Slice& slice, const RowRange& rows) {
  std::vector<StoredBox> out;
  const Shape local = nn::local_shape(slice);
  for (const BoxPair& box : boxes(slice, rows, std::numeric_limits<std::int64_t>::max())) {
    store(local, rows, box, out);
  }
  return out;
}

void for_each_run(const Shape& local_shape, const io::Slab& box,
                  const std::function<void(const BoxRun&)>& f) {
  const int rank = local_shape.rank();
  int inner = rank - 1;  // dimensions after `inner` are taken whole, so runs span them
  std::int64_t tail = 1;
  while (inner > 0 && at(box.count, inner) == local_shape[inner]) tail *= local_shape[inner--];
  const std::int64_t run = at(box.count, inner) * tail;
  const std::int64_t total = box.elements();
  for (std::int64_t done = 0; run > 0 && done < total; done += run) {
    std::int64_t rest = done / run;
    std::int64_t local = at(box.start, inner) * tail;
    std::int64_t stride = tail * local_shape[inner];
    for (int d = inner - 1; d >= 0; --d) {
      local += (at(box.start, d) + rest % at(box.count, d)) * stride;
      rest /= at(box.count, d);
      stride *= local_shape[d];
    }
    f({.local = local, .in_box = done, .count = run});
  }
}

}  // namespace shoal::train
