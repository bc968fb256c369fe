#pragma once
#include <filesystem>
#include <string_view>

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"

namespace shoal::io {

/// Throws Error with the text of errno: "cannot write x: No space left on device".
[[noreturn]] void fail_errno(std::string_view action, const std::filesystem::path& path,
                             Where at = Where::current());
[[nodiscard]] FileDescriptor open_descriptor(const std::filesystem::path& path, int flags);

}  // namespace shoal::io
