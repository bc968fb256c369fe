#include <algorithm>
#include <cctype>
#include <cmath>

#include "shoal/train/plan_text.hpp"
#include "train/text.hpp"

namespace shoal::train {
namespace {

char letter(pipeline::Verb verb) {
  switch (verb) {
    case pipeline::Verb::forward:
      return 'F';
    case pipeline::Verb::backward_weight:
      return 'W';
    default:
      return 'B';
  }
}

const char* colour(const pipeline::Action& action) {
  const bool second = action.chunk % 2 == 1;
  switch (action.verb) {
    case pipeline::Verb::forward:
      return second ? "#7fb0de" : "#1f5fa8";
    case pipeline::Verb::backward_weight:
      return second ? "#a8cf9a" : "#4f8f3a";
    default:
      return second ? "#eab08c" : "#d1662a";
  }
}

std::string caption(const pipeline::Timeline& t) {
  return std::string{pipeline::name(t.shape.kind)} + ", " + std::to_string(t.shape.stages) +
         " stages, " + std::to_string(t.shape.micro_batches) + " micro-batches: bubble " +
         fixed(100.0 * t.bubble_share(), 1) + " % of " + fixed(1e3 * t.finish, 3) + " ms";
}

}  // namespace

std::string picture_text(const pipeline::Timeline& timeline, int columns) {
  std::vector<std::string> rows(static_cast<std::size_t>(timeline.shape.stages),
                                std::string(static_cast<std::size_t>(columns), '.'));
  const double scale = columns / timeline.finish;
  for (const pipeline::TimelineEvent& event : timeline.events) {
    std::string& row = rows[static_cast<std::size_t>(event.rank)];
    const auto begin = static_cast<std::size_t>(std::lround(event.start * scale));
    const auto end = std::min(row.size(), static_cast<std::size_t>(std::lround(event.end * scale)));
    const char c = letter(event.action.verb);
    const bool small = event.action.chunk % 2 == 1;
    for (std::size_t i = begin; i < end; ++i) {
      row[i] = small ? static_cast<char>(std::tolower(c)) : c;
    }
  }
  std::string text = caption(timeline) + "\n";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::string label = "rank " + std::to_string(r);
    label.resize(std::max<std::size_t>(label.size() + 1, 10), ' ');
    text += label + rows[r] + "\n";
  }
  return text;
}

std::string picture_svg(const pipeline::Timeline& timeline) {
  constexpr double kWidth = 1200.0, kLeft = 70.0, kTop = 30.0, kRow = 26.0;
  const double scale = kWidth / timeline.finish;
  const double height = kTop + kRow * timeline.shape.stages + 10.0;
  std::string text = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" +
                     fixed(kLeft + kWidth + 10.0, 0) + "\" height=\"" + fixed(height, 0) +
                     "\" font-family=\"sans-serif\" font-size=\"12\">\n<text x=\"4\" y=\"18\">" +
                     caption(timeline) + "; blue forward, orange backward, green weights</text>\n";
  for (int r = 0; r < timeline.shape.stages; ++r) {
    text += "<text x=\"4\" y=\"" + fixed(kTop + kRow * r + 17.0, 0) + "\">rank " +
            std::to_string(r) + "</text>\n";
  }
  for (const pipeline::TimelineEvent& e : timeline.events) {
    const double x = kLeft + e.start * scale, width = (e.end - e.start) * scale;
    const double y = kTop + kRow * e.rank;
    text += "<rect x=\"" + fixed(x, 2) + "\" y=\"" + fixed(y, 0) + "\" width=\"" + fixed(width, 2) +
            "\" height=\"22\" fill=\"" + colour(e.action) +
            "\" stroke=\"white\" stroke-width=\"0.5\"/>\n";
    constexpr double kRoomForNumber = 14.0;
    if (width < kRoomForNumber) continue;
    text += "<text x=\"" + fixed(x + 2.0, 2) + "\" y=\"" + fixed(y + 15.0, 0) +
            "\" fill=\"white\" font-size=\"10\">" + std::to_string(e.action.micro_batch) +
            "</text>\n";
  }
  return text + "</svg>\n";
}

}  // namespace shoal::train
