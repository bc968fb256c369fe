#pragma once
#include <utility>

namespace shoal {

/// Sole owner of one C handle (a stream, a communicator, an HDF5 id, ...).
/// Traits: `using Raw`, `static Raw null() noexcept`, `static void close(Raw) noexcept`.
/// Move-only: the moved-from object holds Traits::null(), so close() runs exactly once.
template <class Traits>
class UniqueHandle {
 public:
  using Raw = typename Traits::Raw;
  UniqueHandle() noexcept = default;
  explicit UniqueHandle(Raw raw) noexcept : raw_{raw} {}
  UniqueHandle(UniqueHandle&& other) noexcept : raw_{std::exchange(other.raw_, Traits::null())} {}
  UniqueHandle& operator=(UniqueHandle other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~UniqueHandle() {
    if (raw_ != Traits::null()) Traits::close(raw_);
  }
  [[nodiscard]] Raw get() const noexcept { return raw_; }
  /// Gives up ownership: for a close whose result must be checked.
  [[nodiscard]] Raw release() noexcept { return std::exchange(raw_, Traits::null()); }
  [[nodiscard]] explicit operator bool() const noexcept { return raw_ != Traits::null(); }

 private:
  Raw raw_ = Traits::null();
};

}  // namespace shoal
