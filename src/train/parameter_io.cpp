#include "train/parameter_io.hpp"

#include <algorithm>
#include <cstring>

#include "shoal/base/error.hpp"

namespace shoal::train {
namespace {

constexpr std::int64_t kWindow = std::int64_t{1} << 22;  // elements on the host at a time

}  // namespace

void write_local(io::H5Stream& stream, const FieldOfParameter& what, std::int64_t first,
                 std::int64_t count) {
  const std::int64_t width = io::size_of(what.field->type), end = first + count;
  std::vector<std::byte> host(static_cast<std::size_t>(std::min(kWindow, count) * width));
  for (std::int64_t at = first; at < end; at += kWindow) {
    const std::int64_t n = std::min(kWindow, end - at);
    what.field->get({.parameter = what.parameter, .first = at, .count = n}, host.data());
    stream.append(std::span{host}.first(static_cast<std::size_t>(n * width)));
  }
}

void read_global(const io::H5Dataset& dataset, const FieldOfParameter& what,
                 const parallel::RowRange& rows) {
  const std::int64_t width = io::size_of(what.field->type);
  const Shape local = nn::local_shape(what.spec->slice);
  const std::int64_t row = local.rank() <= 1 ? 1 : local.back();
  const std::int64_t step = std::max<std::int64_t>(1, kWindow / row);
  std::vector<std::byte> window, host;
  for (std::int64_t at = 0; at < rows.count; at += step) {
    const parallel::RowRange part{rows.first + at, std::min(step, rows.count - at)};
    const std::int64_t first = part.first * row, count = part.count * row;
    window.resize(static_cast<std::size_t>(count * width));
    for (const BoxPair& box : boxes(what.spec->slice, part, kWindow)) {
      host.resize(static_cast<std::size_t>(box.global.elements() * width));
      dataset.read(box.global, host);
      for_each_run(local, box.local, [&](const BoxRun& run) {
        std::memcpy(window.data() + (run.local - first) * width, host.data() + run.in_box * width,
                    static_cast<std::size_t>(run.count * width));
      });
    }
    what.field->set({.parameter = what.parameter, .first = first, .count = count}, window.data());
  }
}

}  // namespace shoal::train
