#include <algorithm>
#include <cmath>

#include "pipeline/drawing_detail.hpp"
#include "shoal/pipeline/drawing.hpp"

namespace shoal::pipeline {
namespace {

constexpr Colour kWhite{255, 255, 255};
constexpr Colour kBlack{20, 20, 20};
constexpr Colour kIdle{238, 238, 238};
// Indices are those of Verb: forward, backward, backward_input, backward_weight.
constexpr Colour kVerbs[] = {{92, 143, 214}, {78, 168, 142}, {110, 190, 160}, {150, 205, 110}};

constexpr std::int64_t kRow = 22;  // pixels a rank
constexpr std::int64_t kMargin = 8;
constexpr std::int64_t kLabel = 24;  // room for the rank's number
constexpr std::int64_t kUnit = 16;   // pixels of a typical action: two digits fit
constexpr std::int64_t kMaxWidth = 16384;

/// Half way to white for chunks after the first.
Colour colour_of(const Action& a) {
  const Colour full = kVerbs[static_cast<std::size_t>(a.verb)];
  if (a.chunk == 0) return full;
  const auto lighter = [](std::uint8_t x) { return static_cast<std::uint8_t>((x + 255) / 2); };
  return {lighter(full.red), lighter(full.green), lighter(full.blue)};
}

/// Pixels of the whole time: an average action is kUnit wide.
std::int64_t time_width(const Timeline& t) {
  double work = 0.0;
  for (const double busy : t.busy) work += busy;
  if (t.events.empty() || work <= 0.0) return kUnit;
  const double average = work / static_cast<double>(t.events.size());
  const auto width = static_cast<std::int64_t>(std::ceil(t.finish / average * kUnit));
  return std::min(width, kMaxWidth);
}

}  // namespace

Image draw_image(const Timeline& t) {
  const std::string words = summary(t);
  const std::int64_t inner = time_width(t), ranks = std::ssize(t.busy);
  const std::int64_t width = std::max(kLabel + inner, Canvas::width_of(words)) + 2 * kMargin;
  Canvas canvas{width, ranks * kRow + Canvas::kLine + 3 * kMargin, kWhite};
  const auto x_of = [&](double time) {
    return kMargin + kLabel + std::llround(time / t.finish * static_cast<double>(inner));
  };
  for (std::int64_t r = 0; r < ranks; ++r) {
    const std::int64_t top = kMargin + r * kRow;
    canvas.write(kMargin, top + (kRow - Canvas::kLine) / 2, std::to_string(r), kBlack);
    canvas.fill({x_of(0.0), top, inner, kRow - 1}, kIdle);
  }
  for (const TimelineEvent& e : t.events) {
    const std::int64_t top = kMargin + e.rank * kRow, left = x_of(e.start);
    const Canvas::Box box{left, top, x_of(e.end) - left - 1, kRow - 1};
    canvas.fill(box, colour_of(e.action));
    const std::string number = std::to_string(e.action.micro_batch + 1);
    const std::int64_t room = box.width - Canvas::width_of(number);
    if (room < 0) continue;
    canvas.write(left + room / 2, top + (kRow - Canvas::kLine) / 2, number, kBlack);
  }
  canvas.write(kMargin, kMargin + ranks * kRow + kMargin, words, kBlack);
  return canvas.take();
}

}  // namespace shoal::pipeline
