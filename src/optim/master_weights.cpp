#include <algorithm>

#include "shoal/base/error.hpp"
#include "shoal/nn/parameter_runs.hpp"
#include "shoal/optim/optimizer.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::optim {

/// Elements of a window that lie together in the weights and are all held, or all not.
struct Optimizer::MasterPiece {
  std::int64_t in_window = 0;
  std::int64_t count = 0;
  ops::MasterSplit views;  ///< without `master`, unless it is kept (f16)
  bool held = false;
};

std::vector<Optimizer::MasterPiece> Optimizer::pieces(const MasterWindow& w) const {
  const nn::Parameter& p = store_->layout().parameters()[static_cast<std::size_t>(w.parameter)];
  const StateBlock& block = this->block(w.parameter);
  const StateBuffers& b = buffers(block.keep_f32);
  const TensorView& values = block.keep_f32 ? store_->f32_values() : store_->elem_values();
  std::vector<MasterPiece> out;
  for (const nn::StorageRun& run : nn::storage_runs(p.storage, w.first, w.count)) {
    for (std::int64_t at = run.local; at < run.local + run.count;) {
      const std::int64_t held_end = block.first + block.count;
      const bool held = at >= block.first && at < held_end;
      std::int64_t end = run.local + run.count;
      if (held) end = std::min(end, held_end);
      if (at < block.first) end = std::min(end, block.first);
      MasterPiece piece{.in_window = at - w.first, .count = end - at, .held = held};
      piece.views.value = values.rows(run.offset + at - run.local, piece.count);
      const std::int64_t state = block.offset + at - block.first;
      if (held && !b.low.absent()) piece.views.low = b.low.rows(state, piece.count);
      if (held && !b.master.absent()) piece.views.master = b.master.rows(state, piece.count);
      out.push_back(piece);
      at = end;
    }
  }
  return out;
}

/// Device memory for the values of a window.
struct Optimizer::MasterValues {
  MasterValues(DeviceKind device, std::int64_t count)
      : all{device, {count}, DType::f32}, unheld{device, {count}, DType::u16} {}
  Tensor all;
  Tensor unheld;  ///< low halves that nobody keeps
};

void Optimizer::split(const Exec& exec, const MasterWindow& window,
                      const MasterValues& from) const {
  for (const MasterPiece& piece : pieces(window)) {
    ops::MasterSplit split = piece.views;
    const TensorView source = from.all.view().rows(piece.in_window, piece.count);
    if (split.low.absent()) split.low = from.unheld.view().rows(piece.in_window, piece.count);
    if (split.master.absent()) {
      split.master = source;
    } else {
      copy(exec, split.master.bytes_begin(), source.bytes_begin(), source.bytes());
    }
    ops::split_master(exec, split);
  }
}

void Optimizer::initialise(const Exec& exec, std::uint64_t seed) const {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 24;
  std::int64_t largest = 0;
  for (const nn::Parameter& p : store_->layout().parameters()) {
    largest = std::max(largest, p.storage.elements());
  }
  const std::int64_t window = std::min(largest, kMostElements);
  const MasterValues values{exec.device(), window};
  int index = 0;
  for (const nn::Parameter& p : store_->layout().parameters()) {
    for (std::int64_t first = 0; first < p.storage.elements(); first += window) {
      const std::int64_t count = std::min(window, p.storage.elements() - first);
      nn::fill_initial(exec, p.spec, seed, first, values.all.view().rows(0, count));
      split(exec, {.parameter = index, .first = first, .count = count}, values);
    }
    ++index;
  }
  exec.synchronize();
}

void Optimizer::set_master(const Exec& exec, const MasterWindow& window,
                           const float* values) const {
  const MasterValues given{exec.device(), window.count};
  upload(exec, given.all.view().bytes_begin(), values, given.all.view().bytes());
  split(exec, window, given);
  exec.synchronize();
}

void Optimizer::get_master(const Exec& exec, const MasterWindow& window, float* values) const {
  const Tensor all{exec.device(), {window.count}, DType::f32};
  for (const MasterPiece& piece : pieces(window)) {
    expect(piece.held, "master weights of rows that another rank holds");
    ops::MasterSplit split = piece.views;
    const TensorView target = all.view().rows(piece.in_window, piece.count);
    if (split.master.absent()) {
      split.master = target;
      ops::join_master(exec, split);
    } else {
      copy(exec, target.bytes_begin(), split.master.bytes_begin(), target.bytes());
    }
  }
  download(exec, values, all.view().bytes_begin(), all.view().bytes());
  exec.synchronize();
}

}  // namespace shoal::optim
