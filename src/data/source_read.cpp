#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "data/source_file.hpp"
#include "shoal/base/error.hpp"
#include "shoal/data/source.hpp"
#include "shoal/io/json.hpp"
#include "shoal/io/reader.hpp"

namespace shoal::data {
namespace {

using Counter = SourceReport::Counter;
using Take = std::function<void(std::string_view)>;

/// The file is no text: not an error inside a folder, but nothing to read either.
struct BinaryFile {};

/// Blocks of a part; the first is checked for binary content when it is the start of the file.
class Blocks {
 public:
  Blocks(const SourcePart& part, std::int64_t from, SourceReport& report)
      : reader_{part.packed ? io::open_reader(part.path) : open_from(part.path, from)},
        sniff_{from == 0},
        report_{report} {}

  /// Empty at the end.
  std::string_view next() {
    const std::size_t n = reader_->read(block_);
    report_[Counter::bytes_read] += static_cast<std::int64_t>(n);
    if (std::exchange(sniff_, false) && looks_binary(std::span{block_}.first(n))) {
      throw BinaryFile{};
    }
    return {reinterpret_cast<const char*>(block_.data()), n};
  }

 private:
  std::unique_ptr<io::ByteReader> reader_;
  std::vector<std::byte> block_ = std::vector<std::byte>(std::size_t{1} << 18);
  bool sniff_;
  SourceReport& report_;
};

/// Lines with the place where they begin on disk (of the unpacked text in a packed file).
class Lines {
 public:
  Lines(Blocks blocks, std::int64_t position, std::int64_t max_bytes)
      : blocks_{std::move(blocks)}, position_{position}, max_bytes_{max_bytes} {}

  struct Line {
    std::int64_t position = 0;
    std::string_view text;  ///< without its end; valid until the next call
  };
  bool next(Line& line) {
    line.position = position_;
    long_line_.clear();
    while (true) {
      if (block_.empty()) block_ = blocks_.next();
      if (block_.empty()) break;
      const std::size_t end = block_.find('\n');
      const std::string_view piece = block_.substr(0, end);
      const bool whole = end != std::string_view::npos;
      position_ += static_cast<std::int64_t>(piece.size()) + (whole ? 1 : 0);
      block_.remove_prefix(whole ? end + 1 : block_.size());
      if (whole && long_line_.empty()) return finish(line, piece);
      long_line_ += piece;
      require(static_cast<std::int64_t>(long_line_.size()) <= max_bytes_,
              "a line of more than " + std::to_string(max_bytes_ >> 20) +
                  " MiB; raise max_document_mb");
      if (whole) break;
    }
    if (position_ == line.position) return false;
    return finish(line, long_line_);
  }

 private:
  static bool finish(Line& line, std::string_view text) {
    if (text.ends_with('\r')) text.remove_suffix(1);
    line.text = text;
    return true;
  }

  Blocks blocks_;
  std::string_view block_;
  std::string long_line_;
  std::int64_t position_;
  std::int64_t max_bytes_;
};

/// Gathers a document; gives it out in pieces when it is longer than the limit.
class Builder {
 public:
  Builder(std::int64_t max_bytes, SourceReport& report, const Take& take)
      : max_bytes_{static_cast<std::size_t>(max_bytes)}, report_{report}, take_{take} {}

  void append(std::string_view text) {
    document_ += text;
    while (document_.size() > max_bytes_) {
      const std::size_t cut = cut_place();
      take_(std::string_view{document_}.substr(0, cut));
      document_.erase(0, cut);
      ++report_[Counter::documents_cut];
    }
  }
  void finish() {
    if (!document_.empty()) take_(document_);
    document_.clear();
  }

 private:
  /// After the last line end that leaves a long enough piece, otherwise before a whole character.
  [[nodiscard]] std::size_t cut_place() const {
    const std::size_t line_end = document_.rfind('\n', max_bytes_ - 1);
    if (line_end != std::string::npos && line_end >= max_bytes_ / 2) return line_end + 1;
    std::size_t cut = max_bytes_;
    while (cut > max_bytes_ - 4 && (static_cast<unsigned char>(document_[cut]) & 0xC0U) == 0x80) {
      --cut;
    }
    return cut;
  }

  std::size_t max_bytes_;
  std::string document_;
  SourceReport& report_;
  const Take& take_;
};

/// One part and all that reading it needs.
struct Reading {
  const SourceConfig& config;
  const SourcePart& part;
  SourceReport& report;
  const Take& take;

  [[nodiscard]] std::int64_t max_bytes() const { return config.max_document_mb << 20; }
  /// One byte before the range: whether that is a line end tells if a line begins with the range.
  [[nodiscard]] std::int64_t from() const { return std::max<std::int64_t>(part.begin - 1, 0); }
  /// Positions in a packed file are of its text: all of them belong to the one part it is.
  [[nodiscard]] bool beyond(std::int64_t position) const {
    return !part.packed && position >= part.end;
  }
  [[nodiscard]] Lines lines(std::int64_t max_line) const {
    return {Blocks{part, from(), report}, from(), max_line};
  }
};

void read_whole(const Reading& r) {
  Builder builder{r.max_bytes(), r.report, r.take};
  Blocks blocks{r.part, 0, r.report};
  for (std::string_view b = blocks.next(); !b.empty(); b = blocks.next()) builder.append(b);
  builder.finish();
}

/// A document belongs to the range in which the separator line before it begins.
void read_separated(const Reading& r) {
  const bool paragraphs = r.part.kind == SourcePart::Kind::paragraphs;
  Builder builder{r.max_bytes(), r.report, r.take};
  Lines lines = r.lines(r.max_bytes());
  bool ours = r.part.begin == 0;
  Lines::Line line;
  while (lines.next(line)) {
    const bool blank = line.text.find_first_not_of(" \t\f\v") == std::string_view::npos;
    if (paragraphs ? blank : line.text == r.config.separator) {
      builder.finish();
      if (r.beyond(line.position)) return;
      ours = line.position >= r.part.begin;
    } else if (ours) {
      builder.append(line.text);
      builder.append("\n");
    }
  }
  builder.finish();
}

void take_json(const Reading& r, std::string_view line) {
  if (line.find_first_not_of(" \t") == std::string_view::npos) return;
  const io::Json value = io::Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    ++r.report[Counter::lines_malformed];
    return;
  }
  const auto text = value.find(r.config.text_field);
  if (text == value.end() || !text->is_string() || text->get_ref<const std::string&>().empty()) {
    ++r.report[Counter::lines_without_text];
    return;
  }
  Builder builder{r.max_bytes(), r.report, r.take};
  builder.append(text->get_ref<const std::string&>());
  builder.finish();
}

void read_jsonl(const Reading& r) {
  Lines lines = r.lines(2 * r.max_bytes());  // escapes make a line longer than its text
  Lines::Line line;
  while (lines.next(line) && !r.beyond(line.position)) {
    if (line.position >= r.part.begin) take_json(r, line.text);
  }
}

void read_part(const Reading& r) {
  if (r.part.kind == SourcePart::Kind::whole_file) {
    read_whole(r);
  } else if (r.part.kind == SourcePart::Kind::jsonl) {
    read_jsonl(r);
  } else {
    read_separated(r);
  }
}

}  // namespace

void read_documents(const SourceConfig& config, const SourcePart& part, SourceReport& report,
                    const std::function<void(std::string_view)>& take) {
  try {
    read_part({config, part, report, take});
    if (part.begin == 0) ++report[Counter::files_read];
  } catch (const BinaryFile&) {
    require(part.from_folder, part.path + ": is binary, not text");
    ++report[Counter::files_binary];
  } catch (const InputError& error) {
    const bool named = std::string_view{error.what()}.starts_with(part.path);
    const std::string text = named ? error.what() : part.path + ": " + error.what();
    require(part.from_folder, text);
    constexpr std::size_t kMaxProblems = 20;
    if (report.problems.size() < kMaxProblems) report.problems.push_back(text);
    ++report[Counter::files_unreadable];
  }
}

}  // namespace shoal::data
