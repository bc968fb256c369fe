#include <algorithm>
#include <cctype>
#include <cmath>

#include "pipeline/drawing_detail.hpp"
#include "shoal/pipeline/drawing.hpp"

namespace shoal::pipeline {
namespace {

constexpr std::int64_t kMaxColumns = 100'000;
constexpr std::size_t kCell = 2;  // a letter and a digit

double shortest_action(const Timeline& t) {
  double shortest = t.finish;
  for (const TimelineEvent& e : t.events) {
    if (e.end > e.start) shortest = std::min(shortest, e.end - e.start);
  }
  return shortest;
}

char letter_of(const Action& a) {
  const char letter = "FDBW"[static_cast<std::size_t>(a.verb)];
  return a.chunk == 0 ? letter : static_cast<char>(std::tolower(letter));
}

}  // namespace

std::string summary(const Timeline& t) {
  const double percent = std::round(1000.0 * t.bubble_share()) / 10.0;
  std::string number = std::to_string(percent);
  number.erase(number.find('.') + 2);
  return std::string{name(t.shape.kind)} + " " + std::to_string(t.shape.stages) + " stages " +
         std::to_string(t.shape.micro_batches) + " micro-batches " +
         std::to_string(t.shape.chunks) + " chunks bubble " + number + "%";
}

std::string draw_text(const Timeline& t, double unit) {
  if (unit <= 0.0) unit = std::max(shortest_action(t), t.finish / kMaxColumns);
  const auto column = [unit](double time) {
    return static_cast<std::size_t>(std::llround(time / unit)) * kCell;
  };
  std::vector<std::string> rows(t.busy.size(), std::string(column(t.finish), '.'));
  for (const TimelineEvent& e : t.events) {
    std::string& row = rows[static_cast<std::size_t>(e.rank)];
    const std::size_t end = std::min(column(e.end), row.size());
    for (std::size_t at = column(e.start); at < end; ++at) {
      const bool letter = at % kCell == 0;
      row[at] =
          letter ? letter_of(e.action) : static_cast<char>('0' + (e.action.micro_batch + 1) % 10);
    }
  }
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const std::string number = std::to_string(r);
    text += "rank " + std::string(number.size() < 4 ? 4 - number.size() : 0, ' ') + number + " |" +
            rows[r] + "|\n";
  }
  return text + summary(t) + "\n";
}

}  // namespace shoal::pipeline
