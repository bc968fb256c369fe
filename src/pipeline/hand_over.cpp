#include "shoal/pipeline/hand_over.hpp"

#include <algorithm>

#include "shoal/base/error.hpp"

namespace shoal::pipeline {
namespace {

/// The local chunk before (-1) or after (+1) `chunk` in the model when it is on the same rank.
int local_neighbour(const ScheduleShape& shape, int rank, int chunk, int step) {
  const int other = model_chunk(shape, {rank, chunk}) + step;
  if (other < 0 || other >= shape.model_chunks()) return -1;
  const ChunkPlace place = place_of(shape, other);
  return place.rank == rank ? place.chunk : -1;
}

}  // namespace

HandOver::HandOver(const Exec& exec, const Border& border, const ScheduleShape& shape, int rank)
    : micro_batches_{shape.micro_batches},
      buffer_of_(pair_index(shape.chunks, 0, shape.micro_batches), -1) {
  for (const Action& a : make_schedule(shape, rank)) {
    if (a.verb == Verb::forward || a.verb == Verb::backward_weight) continue;
    const int to = local_neighbour(shape, rank, a.chunk, -1);
    if (to >= 0) static_cast<void>(take(to, a.micro_batch));
    if (local_neighbour(shape, rank, a.chunk, 1) >= 0) release(a.chunk, a.micro_batch);
  }
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    buffers_.push_back(persistent(exec, border.shape, border.dtype, MemoryKind::batch));
  }
}

int HandOver::take(int chunk, int micro_batch) {
  const auto free = std::find(taken_.begin(), taken_.end(), false);
  const auto buffer = static_cast<int>(free - taken_.begin());
  if (free == taken_.end()) taken_.push_back(false);
  taken_[static_cast<std::size_t>(buffer)] = true;
  buffer_of_[index(chunk, micro_batch)] = buffer;
  return buffer;
}

TensorView HandOver::put(int chunk, int micro_batch) {
  return buffers_.at(static_cast<std::size_t>(take(chunk, micro_batch)));
}

TensorView HandOver::get(int chunk, int micro_batch) const {
  const int buffer = buffer_of_[index(chunk, micro_batch)];
  expect(buffer >= 0, "a gradient is read before it was made");
  return buffers_[static_cast<std::size_t>(buffer)];
}

void HandOver::release(int chunk, int micro_batch) {
  int& buffer = buffer_of_[index(chunk, micro_batch)];
  expect(buffer >= 0, "a gradient is read before it was made");
  taken_[static_cast<std::size_t>(buffer)] = false;
  buffer = -1;
}

}  // namespace shoal::pipeline
