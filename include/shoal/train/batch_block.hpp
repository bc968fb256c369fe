#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "shoal/data/batch.hpp"
#include "shoal/device/buffer.hpp"
#include "shoal/device/event.hpp"
#include "shoal/nn/batch.hpp"

namespace shoal::train {

/// Micro-batches of one step on the device, in one block, so that one copy brings a step's inputs.
/// The host side has two slots: one is filled while the other may still be on its way.
class BatchBlock {
 public:
  static constexpr int kSlots = 2;

  struct Sizes {
    std::int64_t micro_batches = 0;
    std::int64_t sequences = 0;  ///< of a micro-batch
    std::int64_t seq_len = 0;
    std::int64_t extra_bytes = 0;  ///< for scalars that travel along
  };
  /// Takes persistent memory. On a dry Exec there is no host memory and fill() must not be called.
  BatchBlock(const Exec& exec, const Sizes& sizes);

  void fill(int slot, std::int64_t micro_batch, const data::BatchView& view);
  [[nodiscard]] std::byte* host_extra(int slot) const;
  [[nodiscard]] std::byte* device_extra() const;
  /// Stream-ordered.
  void upload(const Exec& exec, int slot) const;
  [[nodiscard]] nn::Batch batch(std::int64_t micro_batch) const;

 private:
  [[nodiscard]] std::int64_t offset(std::int64_t micro_batch, int part) const;

  Sizes sizes_;
  std::int64_t tokens_ = 0;
  std::int64_t micro_bytes_ = 0;
  TensorView device_;
  std::array<HostBuffer, kSlots> host_;
  std::vector<std::int64_t> first_token_;
};

}  // namespace shoal::train
