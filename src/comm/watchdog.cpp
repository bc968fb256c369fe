#include "shoal/comm/watchdog.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "comm/progress_board.hpp"
#include "comm/suspect.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/environment.hpp"

namespace shoal::comm {
namespace {

/// What the first rank to bark leaves the others for their own messages.
constexpr double kGraceSeconds = 1.0;

/// In one call, so that messages of several ranks do not mix within a line.
void print_to_stderr(std::string_view text) {
  const std::string line = std::string{text} + "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

[[nodiscard]] std::string operation_text(const TraceEntry& e, double age_s) {
  return std::string{name(e.op)} + " #" + std::to_string(e.sequence) + " on " + e.group + " (" +
         std::to_string(e.bytes) + " bytes) has not ended for " +
         std::to_string(static_cast<long>(age_s)) + " s";
}

}  // namespace

Watchdog::Watchdog(std::shared_ptr<Journal> journal, Options options)
    : Watchdog{std::move(journal), ProgressBoard::alone(), std::move(options)} {}

Watchdog::Watchdog(const Communicator& world, Options options)
    : Watchdog{world.journal(), ProgressBoard::share(world), std::move(options)} {}

Watchdog::Watchdog(std::shared_ptr<Journal> journal, std::shared_ptr<ProgressBoard> board,
                   Options options)
    : journal_{std::move(journal)}, board_{std::move(board)}, options_{std::move(options)} {
  require(options_.timeout_s > 0.0 && options_.poll_s > 0.0,
          "the watchdog's timeout must be positive seconds");
  if (!options_.print) options_.print = print_to_stderr;
  if (!options_.on_timeout) {
    options_.on_timeout = [this](const TraceEntry&) {
      Environment::abort(static_cast<int>(ExitCode::failure), before_abort_);
    };
  }
  board_->mine().alive_s = monotonic_s();
  journal_->publish_to({board_, &board_->mine()});
  thread_ = std::thread{[this] { watch(); }};
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Watchdog::set_before_abort(std::function<void()> end_device_work) {
  const std::lock_guard lock{mutex_};
  before_abort_ = std::move(end_device_work);
}

void Watchdog::watch() {
  const std::chrono::duration<double> poll{options_.poll_s};
  bool has_spoken = false;
  std::unique_lock lock{mutex_};
  while (!wake_.wait_for(lock, poll, [this] { return stopping_; })) {
    board_->mine().alive_s = monotonic_s();
    const auto oldest = journal_->in_flight();
    if (oldest && journal_->age_s(*oldest) >= options_.timeout_s) return bark(*oldest);
    if (has_spoken || !board_->alarmed()) continue;
    options_.print(own_state());
    has_spoken = true;
  }
}

void Watchdog::bark(const TraceEntry& late) {
  const bool is_first = board_->raise_alarm();
  options_.print(own_state());
  if (is_first && board_->ranks().size() > 1) options_.print(who_is_behind());
  if (board_->ranks().size() > 1) {
    std::this_thread::sleep_for(std::chrono::duration<double>{kGraceSeconds});
  }
  options_.on_timeout(late);
}

std::string Watchdog::own_state() const {
  const int rank = board_->mine().rank.load();
  std::string text = rank < 0 ? "" : "rank " + std::to_string(rank) + ", ";
  text += "host " + Environment::host_name() + ", pid " + std::to_string(::getpid()) + ": ";
  const auto oldest = journal_->in_flight();
  text += oldest ? operation_text(*oldest, journal_->age_s(*oldest)) : "in no collective";
  return text + "; last operations of this rank:\n" + journal_->describe(options_.dump_lines);
}

std::string Watchdog::who_is_behind() const {
  const double silent = std::max(3.0 * options_.poll_s, std::min(options_.timeout_s / 2.0, 5.0));
  std::string text = describe_suspect({.ranks = board_->ranks(),
                                       .from = board_->mine_index(),
                                       .now_s = monotonic_s(),
                                       .silent_s = silent});
  if (!board_->all_ranks_are_here()) text += " (ranks of other hosts are not seen from here)";
  return "host " + Environment::host_name() + ": " + text;
}

}  // namespace shoal::comm
