#include "shoal/io/json.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "shoal/io/atomic_file.hpp"

namespace shoal::io {
namespace {

/// Far beyond any file of ours; what is larger is not one of them.
constexpr std::int64_t kMaxJsonBytes = std::int64_t{1} << 30;

[[nodiscard]] std::string position(std::string_view text, std::size_t byte) {
  const auto before = text.substr(0, std::min(byte, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto last = before.rfind('\n');
  const auto column = before.size() - (last == std::string_view::npos ? 0 : last + 1);
  return "line " + std::to_string(line) + ", column " +
         std::to_string(std::max<std::size_t>(column, 1));
}

/// Sees every key while the text is parsed and notes the first one that repeats in its object.
class DuplicateKeys {
 public:
  bool operator()(int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::object_end) open_.pop_back();
    if (event == Json::parse_event_t::key &&
        !open_.back().insert(parsed.get<std::string>()).second) {
      throw InputError{"key \"" + parsed.get<std::string>() + "\" occurs twice"};
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> open_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view what) {
  DuplicateKeys duplicates;
  try {
    return Json::parse(text, [&duplicates](int depth, Json::parse_event_t event, Json& parsed) {
      return duplicates(depth, event, parsed);
    });
  } catch (const Json::parse_error& error) {
    throw InputError{std::string{what} + ": " + position(text, error.byte) + ": " + error.what()};
  } catch (const InputError& error) {
    throw InputError{std::string{what} + ": " + error.what()};
  } catch (const Json::exception& error) {
    throw InputError{std::string{what} + ": " + error.what()};
  }
}

Json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path, kMaxJsonBytes), path.string());
}

std::string canonical_dump(const Json& value) {
  try {
    return value.dump(2) + "\n";
  } catch (const Json::exception& error) {
    fail("JSON", error.what());  // text that is not UTF-8
  }
}

void write_json_file(const std::filesystem::path& path, const Json& value) {
  write_file_atomically(path, canonical_dump(value));
}

}  // namespace shoal::io
