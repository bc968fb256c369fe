#pragma once
#include "shoal/pipeline/schedule.hpp"

/// The generation rule of each schedule, for shapes that are valid. References: schedule.hpp.
namespace shoal::pipeline {

[[nodiscard]] ActionList gpipe_actions(const ScheduleShape& shape);
[[nodiscard]] ActionList one_f_one_b_actions(const ScheduleShape& shape, int rank);
[[nodiscard]] ActionList interleaved_actions(const ScheduleShape& shape, int rank);
[[nodiscard]] ActionList zb_h1_actions(const ScheduleShape& shape, int rank);
[[nodiscard]] ActionList zbv_actions(const ScheduleShape& shape, int rank);

}  // namespace shoal::pipeline
