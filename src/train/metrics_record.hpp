#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "shoal/train/metrics.hpp"

/// Records of metrics.journal: magic u32, kind u32, payload bytes u64, 32 hex digits of XXH3 over
/// kind and payload, payload. The first record tells version and router shape.
namespace shoal::train {

using Record = std::variant<RouterShape, StepRow, ValidationRow, RouterRow>;

[[nodiscard]] std::vector<std::byte> encode(const Record& record);

struct Decoded {
  Record record;
  std::size_t bytes = 0;  ///< of the whole record
};
/// The record at the front of `bytes`; nothing when it is cut short, damaged or of another version.
[[nodiscard]] std::optional<Decoded> decode(std::span<const std::byte> bytes,
                                            const RouterShape& router);

[[nodiscard]] std::int64_t step_of(const Record& record);  ///< 0 of the header
void append_to(MetricsTable& table, Record record);

}  // namespace shoal::train
