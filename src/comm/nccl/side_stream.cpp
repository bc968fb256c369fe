#include "comm/nccl/side_stream.hpp"

#include "shoal/device/check.hpp"

namespace shoal::comm {

EventHandle make_event() {
  cudaEvent_t event = nullptr;
  shoal::cuda::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return EventHandle{event};
}

StreamHandle make_urgent_stream() {
  int least = 0, greatest = 0;
  shoal::cuda::check(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  shoal::cuda::check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
  return StreamHandle{stream};
}

SideStream::SideStream() : forked_{make_event()}, joined_{make_event()} {
  cudaStream_t stream = nullptr;
  shoal::cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  stream_ = StreamHandle{stream};
}

cudaStream_t SideStream::fork(cudaStream_t stream) {
  shoal::cuda::check(cudaEventRecord(forked_.get(), stream));
  shoal::cuda::check(cudaStreamWaitEvent(stream_.get(), forked_.get(), 0));
  return stream_.get();
}

void SideStream::join(cudaStream_t stream) {
  shoal::cuda::check(cudaEventRecord(joined_.get(), stream_.get()));
  shoal::cuda::check(cudaStreamWaitEvent(stream, joined_.get(), 0));
}

}  // namespace shoal::comm
