#include "comm/nccl_pinning.hpp"

#include <cstdlib>

namespace shoal::comm {
namespace {

/// The value of a variable of the environment, set to `value` when it is absent.
[[nodiscard]] std::string value_or_set(const char* name, const char* value) {
  if (const char* present = std::getenv(name)) return present;
  ::setenv(name, value, 1);
  return value;
}

}  // namespace

NcclPinning pin_nccl() {
  const bool by_user = std::getenv("NCCL_ALGO") != nullptr || std::getenv("NCCL_PROTO") != nullptr;
  return {.algorithm = value_or_set("NCCL_ALGO", "Ring"),
          .protocol = value_or_set("NCCL_PROTO", "Simple"),
          .by_user = by_user};
}

std::string describe(const NcclPinning& pinning) {
  return "algorithm " + pinning.algorithm + ", protocol " + pinning.protocol +
         (pinning.by_user ? " (from the environment)" : " (pinned)");
}

}  // namespace shoal::comm
