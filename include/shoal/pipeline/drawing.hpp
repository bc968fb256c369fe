#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/pipeline/timeline.hpp"

namespace shoal::pipeline {

/// Rows are ranks, columns are time. A cell shows F, D (a backward at once), B (backward_input) or
/// W and the last digit of the micro-batch, counted from 1; lower case is a rank's second chunk and
/// later ones. The last line is the bubble share. A column lasts `unit`, or where it is 0 the
/// shortest action.
[[nodiscard]] std::string draw_text(const Timeline& timeline, double unit = 0.0);

/// 8-bit RGB, rows from the top.
struct Image {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::uint8_t> rgb;  ///< [height, width, 3]
};

/// The same as a picture: a box an action, its colour for the verb (lighter for later chunks) and
/// the number of its micro-batch; the schedule's name and its bubble share stand below.
[[nodiscard]] Image draw_image(const Timeline& timeline);

}  // namespace shoal::pipeline
