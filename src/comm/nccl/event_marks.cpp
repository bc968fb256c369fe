#include "comm/nccl/event_marks.hpp"

#include <cuda_runtime.h>

#include <vector>

#include "comm/nccl/side_stream.hpp"
#include "shoal/device/check.hpp"

namespace shoal::comm {
namespace {

/// How far the host may run ahead of the device with every operation still seen.
constexpr int kMarks = 256;

class EventMarks final : public DeviceMarks {
 public:
  EventMarks() {
    shoal::cuda::check(cudaGetDevice(&device_));
    for (int m = 0; m < kMarks; ++m) events_.push_back(make_event());
  }
  [[nodiscard]] int count() const override { return kMarks; }

  [[nodiscard]] bool set(int mark, CUstream_st* stream) override {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    shoal::cuda::check(cudaStreamIsCapturing(stream, &status));
    if (status != cudaStreamCaptureStatusNone) return false;
    shoal::cuda::check(cudaEventRecord(event(mark), stream));
    return true;
  }

  /// An error of the device is for the thread that waits for its results.
  [[nodiscard]] bool reached(int mark) override {
    return cudaEventQuery(event(mark)) == cudaSuccess;
  }

  /// The default mode would forbid queries while another thread captures a graph.
  void enter_thread() override {
    shoal::cuda::check(cudaSetDevice(device_));
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    shoal::cuda::check(cudaThreadExchangeStreamCaptureMode(&mode));
  }

 private:
  [[nodiscard]] cudaEvent_t event(int mark) const {
    return events_[static_cast<std::size_t>(mark)].get();
  }
  int device_ = 0;
  std::vector<EventHandle> events_;
};

}  // namespace

std::unique_ptr<DeviceMarks> make_event_marks() {
  return std::make_unique<EventMarks>();
}

}  // namespace shoal::comm
