#include "shoal/device/arena.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"
#include "shoal/device/buffer.hpp"

namespace shoal {
namespace {

constexpr std::int64_t kAlign = 256;  // a cache line pair, and what vector loads and TMA want
constexpr std::int64_t kCountingCapacity = std::int64_t{1} << 60;

std::byte* counting_base() {
  // An address that nothing lives at: counting hands out numbers, never memory.
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<std::byte*>(std::uintptr_t{1} << 32);
}

}  // namespace

std::string_view name(MemoryKind kind) {
  constexpr std::array<std::string_view, kMemoryKinds> kNames = {
      "weights", "gradients", "optimizer", "state", "batch", "cache"};
  return kNames[static_cast<std::size_t>(kind)];
}

Region::Region(std::byte* base, std::int64_t capacity, std::string_view what)
    : base_{base}, capacity_{capacity}, what_{what} {}

Region Region::counting(std::string_view what) {
  return Region{counting_base(), kCountingCapacity, what};
}

void* Region::allocate(std::int64_t bytes) {
  expect(bytes >= 0, "negative allocation");
  const std::int64_t next = used_ + round_up(bytes, kAlign);
  if (next > capacity_) {
    fail("arena", std::string{what_} + " is full: " + std::to_string(next) + " bytes wanted, " +
                      std::to_string(capacity_) + " planned");
  }
  std::byte* pointer = base_ + used_;
  used_ = next;
  peak_ = std::max(peak_, used_);
  return pointer;
}

std::int64_t ArenaPlan::saved_total() const {
  return std::accumulate(saved.begin(), saved.end(), std::int64_t{0});
}

struct Arena::Memory {
  DeviceBuffer block;
};

Arena::Arena(DeviceKind)
    : persistent_{Region::counting("persistent memory")}, scratch_{Region::counting("scratch")} {}

Arena::Arena(DeviceKind device, const ArenaPlan& plan)
    : memory_{std::make_unique<Memory>(
          Memory{DeviceBuffer{device, std::max<std::int64_t>(plan.total(), kAlign)}})} {
  std::byte* next = memory_->block.data();
  const auto carve = [&next](std::int64_t bytes, std::string_view what) {
    std::byte* base = std::exchange(next, next + bytes);
    return Region{base, bytes, what};
  };
  persistent_ = carve(plan.persistent, "persistent memory");
  for (const std::int64_t bytes : plan.saved) saved_.push_back(carve(bytes, "saved slot"));
  scratch_ = carve(plan.scratch, "scratch");
}

Arena::Arena(Arena&&) noexcept = default;
Arena& Arena::operator=(Arena&&) noexcept = default;
Arena::~Arena() = default;

void* Arena::persistent(std::int64_t bytes, MemoryKind kind) {
  const std::int64_t before = persistent_.used();
  void* pointer = persistent_.allocate(bytes);
  by_kind_[static_cast<std::size_t>(kind)] += persistent_.used() - before;
  return pointer;
}

Store Arena::saved(int slot) {
  while (counting() && slot >= static_cast<int>(saved_.size())) {
    saved_.push_back(Region::counting("saved slot"));
  }
  expect(slot >= 0 && slot < static_cast<int>(saved_.size()), "no such saved slot in the plan");
  return Store{saved_[static_cast<std::size_t>(slot)]};
}

void Arena::free_saved(int slot) {
  saved_.at(static_cast<std::size_t>(slot)).reset();
}

ArenaPlan Arena::plan() const {
  ArenaPlan plan{.persistent = persistent_.peak(), .scratch = scratch_.peak(), .by_kind = by_kind_};
  for (const Region& region : saved_) plan.saved.push_back(region.peak());
  return plan;
}

}  // namespace shoal
