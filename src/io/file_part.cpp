#include "io/file_part.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::io {

FilePart::FilePart(std::filesystem::path path)
    : path_{std::move(path)}, file_{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)} {
  require(static_cast<bool>(file_), "cannot open " + path_.string() + ": " + std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(file_.get(), &status) == 0 && S_ISREG(status.st_mode);
  require(known, path_.string() + " is not a regular file");
  size_ = status.st_size;
}

void FilePart::read(std::int64_t at, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count = ::pread(file_.get(), into.data(), into.size(), at);
    if (count < 0 && errno == EINTR) continue;
    require(count >= 0, "cannot read " + path_.string() + ": " + std::strerror(errno));
    require(count > 0, path_.string() + " ends too early");
    into = into.subspan(static_cast<std::size_t>(count));
    at += count;
  }
}

}  // namespace shoal::io
