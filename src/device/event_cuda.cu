#include "device/cuda_context.hpp"
#include "shoal/base/unique_handle.hpp"
#include "shoal/device/check.hpp"

namespace shoal::cuda {
namespace {

struct EventTraits {
  using Raw = cudaEvent_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw event) noexcept { (void)cudaEventDestroy(event); }
};

}  // namespace

struct EventOwner {
  UniqueHandle<EventTraits> event;
};

std::shared_ptr<EventOwner> make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync));
  return std::make_shared<EventOwner>(EventOwner{UniqueHandle<EventTraits>{event}});
}

void record(const EventOwner& owner, const CudaContext& context) {
  check(cudaEventRecord(owner.event.get(), context.stream));
}

void hold_back(const EventOwner& owner, const CudaContext& context) {
  check(cudaStreamWaitEvent(context.stream, owner.event.get(), 0));
}

void wait(const EventOwner& owner) {
  check(cudaEventSynchronize(owner.event.get()));
}

}  // namespace shoal::cuda
