#pragma once
#include <string>
#include <string_view>

#include "shoal/pipeline/drawing.hpp"

namespace shoal::pipeline {

/// "zb-h1 4 stages 8 micro-batches 1 chunks bubble 11.1%"
[[nodiscard]] std::string summary(const Timeline& timeline);

struct Colour {
  std::uint8_t red = 0, green = 0, blue = 0;
};

/// A raster to draw boxes and words on; whatever lies outside is cut off.
class Canvas {
 public:
  Canvas(std::int64_t width, std::int64_t height, Colour background);
  struct Box {
    std::int64_t left = 0, top = 0, width = 0, height = 0;
  };
  void fill(const Box& box, Colour colour);
  /// Letters of 5 x 7 pixels, kAdvance apart; characters that the font lacks are blank.
  static constexpr std::int64_t kAdvance = 6;
  static constexpr std::int64_t kLine = 7;
  void write(std::int64_t left, std::int64_t top, std::string_view text, Colour colour);
  [[nodiscard]] static std::int64_t width_of(std::string_view text) {
    return static_cast<std::int64_t>(text.size()) * kAdvance - 1;
  }
  [[nodiscard]] Image take() { return std::move(image_); }

 private:
  void set(std::int64_t x, std::int64_t y, Colour colour);
  Image image_;
};

}  // namespace shoal::pipeline
