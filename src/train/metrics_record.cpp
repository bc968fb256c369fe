#include "train/metrics_record.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "shoal/io/hash.hpp"

namespace shoal::train {
namespace {

constexpr std::uint32_t kMagic = 0x4C4D4853;  // "SHML"
constexpr std::int64_t kJournalVersion = 1;
constexpr std::size_t kHashBytes = 32;

struct Head {
  std::uint32_t magic = kMagic;
  std::uint32_t kind = 0;  ///< index in Record
  std::uint64_t bytes = 0;
  std::array<char, kHashBytes> hash{};
};
struct HeaderPayload {
  std::int64_t version = kJournalVersion;
  std::int64_t columns = kColumns;
  RouterShape router;
};

class Writer {
 public:
  template <class T>
  void put(std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  template <class T>
  void put(const T& value) {
    put(std::span<const T>{&value, 1});
  }
  [[nodiscard]] std::vector<std::byte>& bytes() { return out_; }

 private:
  std::vector<std::byte> out_;
};

/// Takes values off the front; good() turns false at a short read.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_{bytes} {}
  template <class T>
  void take(std::span<T> into) {
    good_ = good_ && left_.size() >= into.size_bytes();
    if (!good_) return;
    if (!into.empty()) std::memcpy(into.data(), left_.data(), into.size_bytes());
    left_ = left_.subspan(into.size_bytes());
  }
  template <class T>
  void take(T& value) {
    take(std::span{&value, 1});
  }
  [[nodiscard]] bool done() const { return good_ && left_.empty(); }

 private:
  std::span<const std::byte> left_;
  bool good_ = true;
};

void put_payload(Writer& w, const RouterShape& router) {
  w.put(HeaderPayload{.router = router});
}
void put_payload(Writer& w, const StepRow& row) {
  w.put(row);
}
void put_payload(Writer& w, const ValidationRow& row) {
  w.put(row);
}
void put_payload(Writer& w, const RouterRow& row) {
  w.put(row.step);
  for (const auto* part : {&row.counts, &row.bias, &row.entropy, &row.drop_rate}) {
    w.put(std::span<const float>{*part});
  }
}

std::array<char, kHashBytes> hash_of(std::uint32_t kind, std::span<const std::byte> payload) {
  io::Hasher hasher;
  hasher.update(std::as_bytes(std::span{&kind, 1}));
  hasher.update(payload);
  const std::string digest = hasher.digest();
  std::array<char, kHashBytes> out{};
  std::copy_n(digest.begin(), std::min(kHashBytes, digest.size()), out.begin());
  return out;
}

template <class Row>
std::optional<Record> take_row(Reader& in) {
  Row row;
  in.take(row);
  if (!in.done()) return std::nullopt;
  return row;
}

std::optional<Record> take_header(Reader& in) {
  HeaderPayload header;
  in.take(header);
  const bool good = in.done() && header.version == kJournalVersion && header.columns == kColumns;
  if (!good) return std::nullopt;
  return header.router;
}

std::optional<Record> take_router(Reader& in, const RouterShape& shape) {
  const auto layers = static_cast<std::size_t>(shape.layers);
  const std::size_t cells = layers * static_cast<std::size_t>(shape.experts);
  RouterRow row{.counts = std::vector<float>(cells),
                .bias = std::vector<float>(cells),
                .entropy = std::vector<float>(layers),
                .drop_rate = std::vector<float>(layers)};
  in.take(row.step);
  for (auto* part : {&row.counts, &row.bias, &row.entropy, &row.drop_rate}) {
    in.take(std::span{*part});
  }
  if (!in.done()) return std::nullopt;
  return row;
}

std::optional<Record> take_payload(std::uint32_t kind, Reader in, const RouterShape& router) {
  switch (kind) {
    case 0:
      return take_header(in);
    case 1:
      return take_row<StepRow>(in);
    case 2:
      return take_row<ValidationRow>(in);
    case 3:
      return take_router(in, router);
    default:
      return std::nullopt;
  }
}

}  // namespace

std::vector<std::byte> encode(const Record& record) {
  Writer payload;
  std::visit([&payload](const auto& row) { put_payload(payload, row); }, record);
  Head head;
  head.kind = static_cast<std::uint32_t>(record.index());
  head.bytes = payload.bytes().size();
  head.hash = hash_of(head.kind, payload.bytes());
  Writer whole;
  whole.put(head);
  whole.put(std::span<const std::byte>{payload.bytes()});
  return std::move(whole.bytes());
}

std::optional<Decoded> decode(std::span<const std::byte> bytes, const RouterShape& router) {
  Head head;
  if (bytes.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.magic != kMagic || head.bytes > bytes.size() - sizeof head) return std::nullopt;
  const auto payload = bytes.subspan(sizeof head, head.bytes);
  if (head.hash != hash_of(head.kind, payload)) return std::nullopt;
  auto record = take_payload(head.kind, Reader{payload}, router);
  if (!record) return std::nullopt;
  return Decoded{.record = std::move(*record), .bytes = sizeof head + payload.size()};
}

std::int64_t step_of(const Record& record) {
  return std::visit(
      [](const auto& row) -> std::int64_t {
        if constexpr (requires { row.step; }) {
          return row.step;
        } else {
          return 0;
        }
      },
      record);
}

void append_to(MetricsTable& table, Record record) {
  if (auto* shape = std::get_if<RouterShape>(&record)) table.router = *shape;
  if (auto* row = std::get_if<StepRow>(&record)) table.steps.push_back(*row);
  if (auto* row = std::get_if<ValidationRow>(&record)) table.validations.push_back(*row);
  if (auto* row = std::get_if<RouterRow>(&record)) table.routers.push_back(std::move(*row));
}

}  // namespace shoal::train
