#include "train/parameter_io.hpp"

#include <algorithm>
#include <array>

#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"

namespace shoal::train {
namespace {

constexpr std::int64_t kWindow = std::int64_t{1} << 22;  // elements on the host at a time

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

void cut(const BoxPair& box, std::int64_t max_elements, std::vector<BoxPair>& out) {
  const std::int64_t rows = box.local.count.front();
  const std::int64_t row =
      std::max<std::int64_t>(1, box.local.elements() / std::max<std::int64_t>(1, rows));
  const std::int64_t step = std::max<std::int64_t>(1, max_elements / row);
  for (std::int64_t at = 0; at < rows; at += step) {
    BoxPair part = box;
    const std::int64_t count = std::min(step, rows - at);
    part.local.start.front() += at;
    part.global.start.front() += at;
    part.local.count.front() = count;
    part.global.count.front() = count;
    out.push_back(std::move(part));
  }
}

}  // namespace

std::vector<Segment> segments(const nn::StorageMap& map, std::int64_t first, std::int64_t count) {
  std::vector<Segment> out;
  for (std::int64_t at = first; at < first + count;) {
    const std::int64_t part = at / map.inner;
    const std::int64_t within = at % map.inner;
    const std::int64_t n = std::min(map.inner - within, first + count - at);
    const std::int64_t offset = map.offset + part * map.stride + within;
    if (!out.empty() && out.back().offset + out.back().count == offset) {
      out.back().count += n;
    } else {
      out.push_back({.local = at, .offset = offset, .count = n});
    }
    at += n;
  }
  return out;
}

std::vector<BoxPair> boxes(const nn::Slice& slice, std::int64_t max_elements) {
  std::vector<BoxPair> out;
  for (const auto& choice : block_choices(slice)) cut(box_of(slice, choice), max_elements, out);
  return out;
}

void for_each_run(const Shape& local_shape, const io::Slab& box,
                  const std::function<void(const BoxRun&)>& f) {
  const int rank = local_shape.rank();
  const auto at = [](const std::vector<std::int64_t>& v, int d) {
    return v[static_cast<std::size_t>(d)];
  };
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

void write_local(io::H5Stream& stream, const FieldOfParameter& what) {
  const auto& [field, parameter] = what;
  const bool keep_f32 = parameter->spec.keep_f32;
  const std::int64_t width = io::size_of(field->type(keep_f32));
  const std::int64_t total = parameter->storage.elements();
  std::vector<std::byte> host(static_cast<std::size_t>(std::min(kWindow, total) * width));
  for (std::int64_t first = 0; first < total; first += kWindow) {
    const std::int64_t count = std::min(kWindow, total - first);
    for (const Segment& s : segments(parameter->storage, first, count)) {
      field->get({.keep_f32 = keep_f32, .segment = s}, host.data() + (s.local - first) * width);
    }
    stream.append(std::span{host}.first(static_cast<std::size_t>(count * width)));
  }
}

void read_global(const io::H5Dataset& dataset, const FieldOfParameter& what) {
  const auto& [field, parameter] = what;
  const bool keep_f32 = parameter->spec.keep_f32;
  const std::int64_t width = io::size_of(field->type(keep_f32));
  const Shape local = nn::local_shape(parameter->spec.slice);
  std::vector<std::byte> host;
  for (const BoxPair& box : boxes(parameter->spec.slice, kWindow)) {
    host.resize(static_cast<std::size_t>(box.global.elements() * width));
    dataset.read(box.global, host);
    for_each_run(local, box.local, [&](const BoxRun& run) {
      for (const Segment& s : segments(parameter->storage, run.local, run.count)) {
        field->set({.keep_f32 = keep_f32, .segment = s},
                   host.data() + (run.in_box + s.local - run.local) * width);
      }
    });
  }
}

void fill_initial(const FieldOfParameter& what, std::uint64_t seed) {
  const auto& [field, parameter] = what;
  const std::int64_t total = parameter->storage.elements();
  for (std::int64_t first = 0; first < total; first += kWindow) {
    const std::int64_t count = std::min(kWindow, total - first);
    const auto values = nn::initial_values(parameter->spec, seed, first, count);
    for (const Segment& s : segments(parameter->storage, first, count)) {
      field->set({.keep_f32 = parameter->spec.keep_f32, .segment = s},
                 reinterpret_cast<const std::byte*>(values.data() + (s.local - first)));
    }
  }
}

}  // namespace shoal::train
