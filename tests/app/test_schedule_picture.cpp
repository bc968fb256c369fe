#include "shoal/app/schedule_picture.hpp"

#include <gtest/gtest.h>

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"
#include "support/temp_folder.hpp"
#include "support/throws.hpp"

namespace shoal::app {
namespace {

TEST(SchedulePicture, IsTextOrAPictureByItsSuffix) {
  const test::TempFolder folder;
  const pipeline::Timeline timeline = pipeline::simulate({pipeline::ScheduleKind::zb_h1, 2, 4, 1},
                                                         {.chunks = {pipeline::ChunkCost{}}});
  write_schedule_picture(folder / "a.txt", timeline);
  EXPECT_NE(io::read_file(folder / "a.txt", 1 << 20).find("bubble 7.7%"), std::string::npos);
  write_schedule_picture(folder / "a.png", timeline);
  EXPECT_EQ(io::read_file(folder / "a.png", 1 << 20).substr(1, 3), "PNG");
  EXPECT_TRUE(test::throws_with<InputError>(
      [&] { write_schedule_picture(folder / "a.jpg", timeline); }, "must end in .png or .txt"));
}

}  // namespace
}  // namespace shoal::app
