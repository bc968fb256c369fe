#pragma once
#include <filesystem>

#include "shoal/pipeline/timeline.hpp"

namespace shoal::app {

/// Draws the timeline of a pipeline schedule into `path`: a picture for .png, text for .txt.
/// InputError for another suffix.
void write_schedule_picture(const std::filesystem::path& path, const pipeline::Timeline& timeline);

}  // namespace shoal::app
