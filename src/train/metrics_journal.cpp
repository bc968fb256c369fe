#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "shoal/base/error.hpp"
#include "shoal/io/atomic_file.hpp"
#include "train/metrics_record.hpp"

namespace shoal::train {
namespace {

constexpr std::int64_t kMaxJournalBytes = std::int64_t{1} << 36;
constexpr double kPausePerRebuild = 50.0;
constexpr std::int64_t kAllSteps = std::numeric_limits<std::int64_t>::max();

std::string last_error() {
  return std::generic_category().message(errno);
}

struct Scan {
  MetricsTable table;
  std::size_t good_bytes = 0;
};

/// Reads records up to the first that is damaged or belongs to a step beyond `keep_steps`. Rows lie
/// in order of their steps, hence cutting is truncation.
Scan scan(const std::filesystem::path& path, std::int64_t keep_steps) {
  Scan result;
  if (!std::filesystem::exists(path)) return result;
  const std::string text = io::read_file(path, kMaxJournalBytes);
  auto left = std::as_bytes(std::span{text});
  while (auto found = decode(left, result.table.router)) {
    if (step_of(found->record) > keep_steps) break;
    if (result.good_bytes == 0 && !std::holds_alternative<RouterShape>(found->record)) break;
    append_to(result.table, std::move(found->record));
    result.good_bytes += found->bytes;
    left = left.subspan(found->bytes);
  }
  return result;
}

std::filesystem::path journal_path(const std::filesystem::path& run_dir) {
  return run_dir / "metrics.journal";
}

io::FileDescriptor open_journal(const std::filesystem::path& path, std::size_t good_bytes) {
  io::FileDescriptor file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)};
  if (file.get() < 0) fail("open", path.string() + ": " + last_error());
  const auto end = static_cast<off_t>(good_bytes);
  if (::ftruncate(file.get(), end) != 0) fail("ftruncate", path.string() + ": " + last_error());
  if (::lseek(file.get(), end, SEEK_SET) != end) fail("lseek", path.string() + ": " + last_error());
  return file;
}

}  // namespace

MetricsWriter::MetricsWriter(Options options, std::int64_t keep_steps)
    : options_{std::move(options)} {
  std::filesystem::create_directories(options_.run_dir);
  const auto path = journal_path(options_.run_dir);
  const Scan found = scan(path, keep_steps);
  const bool usable = found.good_bytes > 0 && found.table.router == options_.router;
  file_ = open_journal(path, usable ? found.good_bytes : 0);
  if (!usable) append(encode(options_.router));
  const auto& validations = found.table.validations;
  if (usable && !validations.empty()) last_validation_ = validations.back().step;
  rebuild();
}

void MetricsWriter::append(std::span<const std::byte> record) {
  io::write_all(file_.get(), record, journal_path(options_.run_dir));
}

void MetricsWriter::add(const StepRow& row) {
  append(encode(row));
  keep_up();
}
void MetricsWriter::add(const ValidationRow& row) {
  append(encode(row));
  last_validation_ = row.step;
}
void MetricsWriter::add(const RouterRow& row) {
  append(encode(row));
}

void MetricsWriter::keep_up() {
  if (since_sync_.seconds() >= options_.sync_seconds) sync();
  // A long run's file takes a while: never more than a small share of the time goes into it.
  const double pause = std::max(options_.rebuild_seconds, kPausePerRebuild * rebuild_took_s_);
  if (since_rebuild_.seconds() >= pause) rebuild();
}

void MetricsWriter::sync() {
  if (::fsync(file_.get()) != 0) {
    fail("fsync", journal_path(options_.run_dir).string() + ": " + last_error());
  }
  since_sync_.restart();
}

void MetricsWriter::rebuild() {
  const Stopwatch clock;
  write_metrics_file(options_.run_dir / "metrics.h5", read_journal(journal_path(options_.run_dir)));
  rebuild_took_s_ = clock.seconds();
  since_rebuild_.restart();
}

MetricsTable read_journal(const std::filesystem::path& journal) {
  return scan(journal, kAllSteps).table;
}

}  // namespace shoal::train
