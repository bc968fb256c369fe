#include "comm/nccl/event_queue.hpp"

#include <cuda_runtime.h>

#include <vector>

#include "comm/nccl/side_stream.hpp"
#include "shoal/device/check.hpp"

namespace shoal::comm {
namespace {

class EventQueue final : public SideQueue {
 public:
  explicit EventQueue(int points) {
    for (int p = 0; p < points; ++p) events_.push_back(make_event());
  }
  [[nodiscard]] CUstream_st* stream() override { return stream_.get(); }
  void mark(int point, CUstream_st* stream) override {
    shoal::cuda::check(cudaEventRecord(event(point), stream));
  }
  void wait(int point, CUstream_st* stream) override {
    shoal::cuda::check(cudaStreamWaitEvent(stream, event(point), 0));
  }

 private:
  [[nodiscard]] cudaEvent_t event(int point) const {
    return events_.at(static_cast<std::size_t>(point)).get();
  }

  StreamHandle stream_ = make_urgent_stream();
  std::vector<EventHandle> events_;
};

}  // namespace

std::unique_ptr<SideQueue> make_event_queue(int points) {
  return std::make_unique<EventQueue>(points);
}

}  // namespace shoal::comm
