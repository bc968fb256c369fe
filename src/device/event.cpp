#include "shoal/device/event.hpp"

#include "device/cuda_context.hpp"

namespace shoal {

struct Event::Handle {
  std::shared_ptr<cuda::EventOwner> event;
};

Event::Event(DeviceKind device) : handle_{std::make_unique<Handle>()} {
  if constexpr (kHasCuda) {
    if (device == DeviceKind::cuda) handle_->event = cuda::make_event();
  } else {
    (void)device;
  }
}
Event::Event(Event&&) noexcept = default;
Event& Event::operator=(Event&&) noexcept = default;
Event::~Event() = default;

void Event::record(const Exec& exec) {
  if constexpr (kHasCuda) {
    if (handle_->event && !exec.is_dry()) cuda::record(*handle_->event, exec.cuda());
  } else {
    (void)exec;
  }
}

void Event::wait() const {
  if constexpr (kHasCuda) {
    if (handle_->event) cuda::wait(*handle_->event);
  }
}

void Event::hold_back(const Exec& exec) const {
  if constexpr (kHasCuda) {
    if (handle_->event && !exec.is_dry()) cuda::hold_back(*handle_->event, exec.cuda());
  } else {
    (void)exec;
  }
}

}  // namespace shoal
