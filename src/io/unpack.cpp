#include "io/unpack.hpp"

#include <zlib.h>
#include <zstd.h>

#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/base/unique_handle.hpp"

namespace shoal::io {
namespace {

constexpr std::size_t kPackedBytes = 1 << 17;
constexpr int kMaxZstdWindowLog = 27;  // 128 MiB: what `zstd` itself accepts without a flag

/// Packed input, one block at a time.
class PackedInput {
 public:
  explicit PackedInput(std::unique_ptr<ByteReader> source)
      : source_{std::move(source)}, block_(kPackedBytes) {}

  /// What is left of the block, or the next one; empty at the end of the file.
  [[nodiscard]] std::span<const std::byte> rest() {
    if (at_ == end_) {
      at_ = 0;
      end_ = source_->read(block_);
    }
    return {block_.data() + at_, end_ - at_};
  }
  void consume(std::size_t bytes) { at_ += bytes; }
  [[nodiscard]] const std::filesystem::path& path() const { return source_->path(); }

  [[noreturn]] void refuse(std::string_view why) const {
    throw InputError{path().string() + ": " + std::string{why}};
  }

 private:
  std::unique_ptr<ByteReader> source_;
  std::vector<std::byte> block_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
};

class GzipReader final : public ByteReader {
 public:
  explicit GzipReader(std::unique_ptr<ByteReader> packed) : input_{std::move(packed)} {
    constexpr int kGzipFormat = 16;
    expect(inflateInit2(&stream_, MAX_WBITS + kGzipFormat) == Z_OK, "zlib: cannot start");
  }
  ~GzipReader() override { inflateEnd(&stream_); }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  [[nodiscard]] std::size_t read(std::span<std::byte> into) override {
    expect(!into.empty(), "read into nothing");
    stream_.next_out = reinterpret_cast<Bytef*>(into.data());
    stream_.avail_out = static_cast<uInt>(into.size());
    while (stream_.avail_out == into.size()) {
      const auto rest = input_.rest();
      if (rest.empty()) {
        if (in_member_) input_.refuse("the gzip data ends too early");
        return 0;
      }
      if (!in_member_) inflateReset(&stream_);
      in_member_ = true;
      inflate_some(rest);
    }
    return into.size() - stream_.avail_out;
  }
  [[nodiscard]] const std::filesystem::path& path() const override { return input_.path(); }

 private:
  void inflate_some(std::span<const std::byte> rest) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(rest.data()));
    stream_.avail_in = static_cast<uInt>(rest.size());
    const int code = inflate(&stream_, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      input_.refuse("damaged gzip data: " + std::string{stream_.msg ? stream_.msg : "zlib error"});
    }
    input_.consume(rest.size() - stream_.avail_in);
    if (code == Z_STREAM_END) in_member_ = false;
  }

  PackedInput input_;
  z_stream stream_{};
  bool in_member_ = false;
};

struct ZstdTraits {
  using Raw = ZSTD_DCtx*;
  static Raw null() noexcept { return nullptr; }
  static void close(Raw context) noexcept { ZSTD_freeDCtx(context); }
};

class ZstdReader final : public ByteReader {
 public:
  explicit ZstdReader(std::unique_ptr<ByteReader> packed)
      : input_{std::move(packed)}, context_{ZSTD_createDCtx()} {
    expect(static_cast<bool>(context_), "zstd: no memory");
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }

  [[nodiscard]] std::size_t read(std::span<std::byte> into) override {
    expect(!into.empty(), "read into nothing");
    ZSTD_outBuffer out{into.data(), into.size(), 0};
    while (out.pos == 0) {
      const auto rest = input_.rest();
      if (rest.empty() && !flushing_) {
        if (in_frame_) input_.refuse("the zstd data ends too early");
        return 0;
      }
      ZSTD_inBuffer in{rest.data(), rest.size(), 0};
      const std::size_t left = ZSTD_decompressStream(context_.get(), &out, &in);
      if (ZSTD_isError(left)) {
        input_.refuse(std::string{"damaged zstd data: "} + ZSTD_getErrorName(left));
      }
      input_.consume(in.pos);
      in_frame_ = left != 0;
      flushing_ = out.pos == out.size && in_frame_;
    }
    return out.pos;
  }
  [[nodiscard]] const std::filesystem::path& path() const override { return input_.path(); }

 private:
  PackedInput input_;
  UniqueHandle<ZstdTraits> context_;
  bool in_frame_ = false;
  bool flushing_ = false;  ///< the output was full: there may be more without further input
};

}  // namespace

std::unique_ptr<ByteReader> make_gzip_reader(std::unique_ptr<ByteReader> packed) {
  return std::make_unique<GzipReader>(std::move(packed));
}
std::unique_ptr<ByteReader> make_zstd_reader(std::unique_ptr<ByteReader> packed) {
  return std::make_unique<ZstdReader>(std::move(packed));
}

}  // namespace shoal::io
