#include "shoal/app/schedule_picture.hpp"

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/io/png.hpp"
#include "shoal/pipeline/drawing.hpp"

namespace shoal::app {

void write_schedule_picture(const std::filesystem::path& path, const pipeline::Timeline& timeline) {
  const std::string suffix = path.extension().string();
  require(suffix == ".png" || suffix == ".txt",
          "plan.schedule_picture = " + path.string() + ": must end in .png or .txt");
  if (suffix == ".txt") return io::write_file_atomically(path, pipeline::draw_text(timeline));
  const pipeline::Image image = pipeline::draw_image(timeline);
  io::write_png(path, {.width = image.width, .height = image.height, .rgb = image.rgb});
}

}  // namespace shoal::app
