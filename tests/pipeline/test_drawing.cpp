#include "shoal/pipeline/drawing.hpp"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace shoal::pipeline {
namespace {

TEST(Drawing, OfOneForwardOneBackwardInText) {
  const Timeline t = simulate({ScheduleKind::one_f_one_b, 2, 3, 1}, {.chunks = {ChunkCost{}}});
  EXPECT_EQ(draw_text(t),
            "rank    0 |F1F2....D1D1F3D2D2..D3D3|\n"
            "rank    1 |..F1D1D1F2D2D2F3D3D3....|\n"
            "1f1b 2 stages 3 micro-batches 1 chunks bubble 25.0%\n");
}

TEST(Drawing, OfAVInText) {
  const Timeline t = simulate({ScheduleKind::zbv, 2, 3, 2}, {.chunks = {ChunkCost{}}});
  const std::string text = draw_text(t);
  EXPECT_EQ(text.substr(0, text.find('\n')), "rank    0 |F1F2F3f1b1w1f2b2w2B1W1f3b3w3B2W2B3W3..|")
      << text;
}

TEST(Drawing, AsAPictureHasAllColours) {
  const Timeline t = simulate({ScheduleKind::zb_h1, 4, 8, 1}, {.chunks = {ChunkCost{}}});
  const Image image = draw_image(t);
  ASSERT_EQ(std::ssize(image.rgb), 3 * image.width * image.height);
  std::set<std::tuple<int, int, int>> colours;
  for (std::size_t i = 0; i < image.rgb.size(); i += 3) {
    colours.emplace(image.rgb[i], image.rgb[i + 1], image.rgb[i + 2]);
  }
  EXPECT_EQ(colours.size(), 6U) << "paper, ink, idle, F, B, W";
  EXPECT_GT(image.width, 8 * 3 * 16) << "an action is 16 pixels wide";
}

}  // namespace
}  // namespace shoal::pipeline
