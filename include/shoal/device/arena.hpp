#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string_view>
#include <vector>

#include "shoal/device/device.hpp"

namespace shoal {

/// What persistent memory is for; `plan` reports bytes by kind.
enum class MemoryKind { weights, gradients, optimizer, state, batch, cache };
inline constexpr int kMemoryKinds = 6;
[[nodiscard]] std::string_view name(MemoryKind kind);

/// A bump allocator over one block of memory. While counting there is no block: addresses are
/// distinct, aligned and must not be dereferenced.
class Region {
 public:
  Region() = default;
  Region(std::byte* base, std::int64_t capacity, std::string_view what);
  static Region counting(std::string_view what);

  /// 256-byte aligned. Throws Error when the block is full: the plan was made for another step.
  [[nodiscard]] void* allocate(std::int64_t bytes);
  [[nodiscard]] std::int64_t mark() const { return used_; }
  void release(std::int64_t mark) { used_ = mark; }  ///< everything after `mark` is free again
  void reset() { used_ = 0; }
  [[nodiscard]] std::int64_t used() const { return used_; }
  [[nodiscard]] std::int64_t peak() const { return peak_; }

 private:
  std::byte* base_ = nullptr;
  std::int64_t capacity_ = 0;
  std::int64_t used_ = 0;
  std::int64_t peak_ = 0;
  std::string_view what_ = "arena";
};

/// Where an op or module puts its results: a saved slot, or scratch. A plain handle.
class Store {
 public:
  explicit Store(Region& region) : region_{&region} {}
  [[nodiscard]] void* allocate(std::int64_t bytes) const { return region_->allocate(bytes); }
  [[nodiscard]] Region& region() const { return *region_; }

 private:
  Region* region_;
};

/// Sizes of an arena in bytes, as counted on a dry Exec.
struct ArenaPlan {
  std::int64_t persistent = 0;
  std::vector<std::int64_t> saved;  ///< one entry for each slot in flight
  std::int64_t scratch = 0;
  std::array<std::int64_t, kMemoryKinds> by_kind{};  ///< of `persistent`

  [[nodiscard]] std::int64_t saved_total() const;
  [[nodiscard]] std::int64_t total() const { return persistent + saved_total() + scratch; }
};

/// All device memory of a rank, with three lifetimes: persistent (weights, gradients, states);
/// numbered saved slots (activations of one micro-batch, freed when its backward is done); scratch,
/// last-in first-out. Nothing is allocated in a step. A counting arena measures a dry step, and its
/// plan() sizes the real one.
class Arena {
 public:
  explicit Arena(DeviceKind device);                ///< counting
  Arena(DeviceKind device, const ArenaPlan& plan);  ///< real: allocates plan.total() bytes
  Arena(Arena&&) noexcept;
  Arena& operator=(Arena&&) noexcept;
  ~Arena();

  [[nodiscard]] void* persistent(std::int64_t bytes, MemoryKind kind);
  [[nodiscard]] Store saved(int slot);  ///< grows the number of slots while counting
  void free_saved(int slot);
  [[nodiscard]] Store scratch() { return Store{scratch_}; }

  [[nodiscard]] bool counting() const { return memory_ == nullptr; }
  [[nodiscard]] ArenaPlan plan() const;  ///< peaks so far

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
  Region persistent_;
  std::deque<Region> saved_;  // a deque: stores hold addresses of its elements
  Region scratch_;
  std::array<std::int64_t, kMemoryKinds> by_kind_{};
};

}  // namespace shoal
