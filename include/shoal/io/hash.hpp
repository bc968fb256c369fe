#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace shoal::io {

/// XXH3, 128 bits, as 32 lower-case hex digits: what `xxhsum -H128` prints.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span{text})); }
  [[nodiscard]] std::string digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string hash_bytes(std::span<const std::byte> bytes);
[[nodiscard]] std::string hash_text(std::string_view text);
[[nodiscard]] std::string hash_file(
    const std::filesystem::path& path);  ///< InputError if unreadable

}  // namespace shoal::io
