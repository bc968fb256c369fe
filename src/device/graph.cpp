#include "shoal/device/graph.hpp"

#include "device/cuda_context.hpp"
#include "shoal/base/error.hpp"

namespace shoal {

struct Graph::Handle {
  std::shared_ptr<cuda::GraphOwner> graph;
};

Graph::Graph() : handle_{std::make_unique<Handle>()} {}
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;
Graph::~Graph() = default;

bool Graph::recorded() const {
  return handle_->graph != nullptr;
}

void Graph::record(const Exec& exec, const std::function<void()>& body) {
  expect(exec.on_gpu() && !exec.is_dry(), "only a GPU records a graph");
  if constexpr (kHasCuda) {
    cuda::begin_capture(exec.cuda());
    try {
      body();
    } catch (...) {
      cuda::abandon_capture(exec.cuda());
      throw;
    }
    handle_->graph = cuda::end_capture(exec.cuda());
  } else {
    static_cast<void>(body);
  }
}

void Graph::launch(const Exec& exec) const {
  expect(recorded(), "a graph is recorded before it is launched");
  if constexpr (kHasCuda) cuda::launch(*handle_->graph, exec.cuda());
}

}  // namespace shoal
