#pragma once
#include <memory>

#include "comm/side_queue.hpp"

namespace shoal::comm {

/// A stream of high priority on the current GPU with this many points, which are CUDA events.
[[nodiscard]] std::unique_ptr<SideQueue> make_event_queue(int points);

}  // namespace shoal::comm
