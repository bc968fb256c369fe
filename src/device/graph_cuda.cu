#include "device/cuda_context.hpp"
#include "shoal/base/unique_handle.hpp"
#include "shoal/device/check.hpp"

namespace shoal::cuda {
namespace {

struct GraphTraits {
  using Raw = cudaGraph_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw graph) noexcept { (void)cudaGraphDestroy(graph); }
};
struct GraphExecTraits {
  using Raw = cudaGraphExec_t;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw graph) noexcept { (void)cudaGraphExecDestroy(graph); }
};

}  // namespace

struct GraphOwner {
  UniqueHandle<GraphExecTraits> graph;
};

void begin_capture(const CudaContext& context) {
  check(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal));
}

void abandon_capture(const CudaContext& context) noexcept {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(context.stream, &graph) == cudaSuccess) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();  // the error that ended the capture is reported by whoever threw
}

std::shared_ptr<GraphOwner> end_capture(const CudaContext& context) {
  cudaGraph_t raw = nullptr;
  check(cudaStreamEndCapture(context.stream, &raw));
  const UniqueHandle<GraphTraits> graph{raw};
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, raw, 0));
  return std::make_shared<GraphOwner>(GraphOwner{UniqueHandle<GraphExecTraits>{executable}});
}

void launch(const GraphOwner& owner, const CudaContext& context) {
  check(cudaGraphLaunch(owner.graph.get(), context.stream));
}

}  // namespace shoal::cuda
