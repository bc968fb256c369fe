#pragma once
#include <memory>

#include "comm/nccl_comm.hpp"

namespace shoal::comm {

/// Marks made of CUDA events on the current GPU.
[[nodiscard]] std::unique_ptr<DeviceMarks> make_event_marks();

}  // namespace shoal::comm
