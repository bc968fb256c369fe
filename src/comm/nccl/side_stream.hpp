#pragma once
#include <cuda_runtime.h>

#include "shoal/base/unique_handle.hpp"

namespace shoal::comm {

struct EventTraits {
  using Raw = cudaEvent_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw event) noexcept { (void)cudaEventDestroy(event); }
};
using EventHandle = UniqueHandle<EventTraits>;
/// For order between streams, without a time.
[[nodiscard]] EventHandle make_event();

struct StreamTraits {
  using Raw = cudaStream_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw stream) noexcept { (void)cudaStreamDestroy(stream); }
};
using StreamHandle = UniqueHandle<StreamTraits>;
/// Its kernels are placed before those of other streams, so that they do not wait for a place that
/// those would take from each other.
[[nodiscard]] StreamHandle make_urgent_stream();

/// A stream beside another one. Also while that one records a graph, which then holds both.
class SideStream {
 public:
  SideStream();
  /// This stream goes on where `stream` is.
  [[nodiscard]] cudaStream_t fork(cudaStream_t stream);
  /// `stream` goes on when this one has come here.
  void join(cudaStream_t stream);

 private:
  StreamHandle stream_;
  EventHandle forked_, joined_;
};

}  // namespace shoal::comm
