#include "shoal/io/hash.hpp"

#include <xxhash.h>

#include <vector>

#include "shoal/base/error.hpp"
#include "shoal/base/unique_handle.hpp"
#include "shoal/io/reader.hpp"

namespace shoal::io {
namespace {

struct StateTraits {
  using Raw = XXH3_state_t*;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw state) noexcept { XXH3_freeState(state); }
};

[[nodiscard]] std::string hex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

}  // namespace

struct Hasher::State {
  UniqueHandle<StateTraits> xxh{XXH3_createState()};
};

Hasher::Hasher() : state_{std::make_unique<State>()} {
  expect(static_cast<bool>(state_->xxh), "no memory for a hash state");
  XXH3_128bits_reset(state_->xxh.get());
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->xxh.get(), bytes.data(), bytes.size());
}

std::string Hasher::digest() const {
  return hex(XXH3_128bits_digest(state_->xxh.get()));
}

std::string hash_bytes(std::span<const std::byte> bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string hash_text(std::string_view text) {
  return hash_bytes(std::as_bytes(std::span{text}));
}

std::string hash_file(const std::filesystem::path& path) {
  Hasher hasher;
  const auto reader = open_plain_reader(path);
  std::vector<std::byte> block(1 << 18);
  while (const std::size_t count = reader->read(block)) {
    hasher.update({block.data(), count});
  }
  return hasher.digest();
}

}  // namespace shoal::io
