#include "comm/progress_board.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <string>

#include "shoal/base/log.hpp"
#include "shoal/base/unique_handle.hpp"
#include "shoal/comm/environment.hpp"

namespace shoal::comm {

struct ProgressBoard::Memory {
  std::atomic<bool> alarm{false};
};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<double>::is_always_lock_free,
              "a lock could be held by a stopped rank");

namespace {

struct FileTraits {
  using Raw = int;
  static Raw null() noexcept { return -1; }
  static void close(Raw file) noexcept { ::close(file); }
};

constexpr std::size_t kHeaderBytes = 64;
static_assert(sizeof(ProgressBoard::Memory) <= kHeaderBytes &&
              kHeaderBytes % alignof(RankProgress) == 0);

[[nodiscard]] std::size_t bytes_for(std::size_t ranks) {
  return kHeaderBytes + ranks * sizeof(RankProgress);
}

[[nodiscard]] std::string unused_name() {
  return "/shoal-" + std::to_string(::getpid()) + "-" +
         std::to_string(std::chrono::steady_clock::now().time_since_epoch().count());
}

/// Mapped memory, unmapped with its last user; null when the system refuses.
[[nodiscard]] std::shared_ptr<std::byte> map(int file, std::size_t bytes) {
  const int flags = file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, file, 0);
  if (address == MAP_FAILED) return nullptr;
  return {static_cast<std::byte*>(address), [bytes](std::byte* p) { ::munmap(p, bytes); }};
}

[[nodiscard]] std::span<RankProgress> ranks_in(std::byte* memory, std::size_t ranks) {
  return {std::launder(reinterpret_cast<RankProgress*>(memory + kHeaderBytes)), ranks};
}

void construct(std::byte* memory, std::size_t ranks) {
  ::new (memory) ProgressBoard::Memory;
  for (std::size_t r = 0; r < ranks; ++r) {
    ::new (memory + kHeaderBytes + r * sizeof(RankProgress)) RankProgress;
  }
}

[[nodiscard]] std::shared_ptr<std::byte> create(const std::string& name, std::size_t ranks) {
  const UniqueHandle<FileTraits> file{::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600)};
  const auto bytes = static_cast<off_t>(bytes_for(ranks));
  if (!file || ::ftruncate(file.get(), bytes) != 0) return nullptr;
  auto memory = map(file.get(), bytes_for(ranks));
  if (memory != nullptr) construct(memory.get(), ranks);
  return memory;
}

[[nodiscard]] std::shared_ptr<std::byte> open(const std::string& name, std::size_t ranks) {
  const UniqueHandle<FileTraits> file{::shm_open(name.c_str(), O_RDWR, 0600)};
  return file ? map(file.get(), bytes_for(ranks)) : nullptr;
}

/// The memory of the ranks of `host`, whose first one makes it; its name is gone when this returns,
/// so that nothing stays behind however the job ends. Collective over all hosts.
[[nodiscard]] std::shared_ptr<std::byte> share_memory(const Communicator& world,
                                                      const std::vector<std::size_t>& here) {
  const auto me = static_cast<std::size_t>(world.rank());
  const bool makes = here.front() == me;
  const std::string name = makes ? unused_name() : "";
  auto memory = makes ? create(name, here.size()) : nullptr;
  const auto names = world.all_gather_strings(memory != nullptr ? name : "");
  const std::string& shared = names[here.front()];
  if (!makes && !shared.empty()) memory = open(shared, here.size());
  const auto works = world.all_gather_value<std::int32_t>(memory != nullptr ? 1 : 0);
  if (makes) ::shm_unlink(name.c_str());
  const bool all = std::all_of(here.begin(), here.end(), [&](std::size_t r) { return works[r]; });
  return all ? memory : nullptr;
}

}  // namespace

std::shared_ptr<ProgressBoard> ProgressBoard::alone() {
  const auto memory = map(-1, bytes_for(1));
  if (memory == nullptr) throw std::bad_alloc{};
  construct(memory.get(), 1);
  auto board = std::make_shared<ProgressBoard>();
  board->memory_ = {memory, std::launder(reinterpret_cast<Memory*>(memory.get()))};
  board->ranks_ = ranks_in(memory.get(), 1);
  board->mine().pid = ::getpid();
  return board;
}

std::shared_ptr<ProgressBoard> ProgressBoard::share(const Communicator& world) {
  const auto hosts = world.all_gather_strings(Environment::host_name());
  const auto me = static_cast<std::size_t>(world.rank());
  std::vector<std::size_t> here;
  for (std::size_t r = 0; r < hosts.size(); ++r) {
    if (hosts[r] == hosts[me]) here.push_back(r);
  }
  const auto memory = share_memory(world, here);
  auto board = alone();
  board->mine().rank = world.rank();
  board->all_here_ = here.size() == hosts.size();
  if (memory == nullptr) {
    log::warning("the ranks of this host cannot share memory: a hang is shown by each rank alone");
    board->all_here_ = world.size() == 1;
    return board;
  }
  board->memory_ = {memory, std::launder(reinterpret_cast<Memory*>(memory.get()))};
  board->ranks_ = ranks_in(memory.get(), here.size());
  board->mine_ = static_cast<std::size_t>(std::find(here.begin(), here.end(), me) - here.begin());
  board->mine().rank = world.rank();
  board->mine().pid = ::getpid();
  return board;
}

bool ProgressBoard::raise_alarm() {
  return !memory_->alarm.exchange(true);
}
bool ProgressBoard::alarmed() const {
  return memory_->alarm.load();
}

}  // namespace shoal::comm
