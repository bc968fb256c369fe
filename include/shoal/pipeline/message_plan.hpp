#pragma once
#include "shoal/comm/message_plan.hpp"
#include "shoal/pipeline/schedule.hpp"

namespace shoal::pipeline {

/// The messages of one rank in a step, by the clock of the execution in which every verb takes
/// equal time. A rank that has come to an action has sent all that this clock says it has by then,
/// and what it reads was sent by others at an earlier tick or the same.
[[nodiscard]] comm::MessagePlan message_plan(const ScheduleShape& shape, int rank);

/// The same of a forward pass of one micro-batch through the chunks in model order, whose ranks
/// repeat it again and again. Nothing is due before it is sent or read.
[[nodiscard]] comm::MessagePlan forward_message_plan(const ScheduleShape& shape, int rank);

}  // namespace shoal::pipeline
