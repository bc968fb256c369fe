#include "shoal/comm/call_log.hpp"

#include <sstream>
#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::comm {
namespace {

template <class T>
void write_list(std::ostream& out, const std::vector<T>& values) {
  out << ' ' << values.size();
  for (const T& value : values) out << ' ' << value;
}

template <class T>
[[nodiscard]] std::vector<T> read_list(std::istream& in) {
  std::size_t size = 0;
  in >> size;
  std::vector<T> values(in ? size : 0);
  for (T& value : values) in >> value;
  return values;
}

template <class Enum>
[[nodiscard]] Enum read_enum(std::istream& in) {
  int number = 0;
  in >> number;
  return static_cast<Enum>(number);
}

/// Numbers and names without blanks, separated by blanks.
[[nodiscard]] std::string to_text(const RankCalls& calls) {
  std::ostringstream out;
  out << calls.groups.size();
  for (const RecordedGroup& group : calls.groups) {
    out << ' ' << group.name;
    write_list(out, group.members);
  }
  out << ' ' << calls.calls.size();
  for (const RecordedCall& c : calls.calls) {
    out << ' ' << c.group << ' ' << static_cast<int>(c.op) << ' ' << c.bytes << ' '
        << static_cast<int>(c.type) << ' ' << static_cast<int>(c.reduce) << ' ' << c.peer << ' '
        << c.batch;
    write_list(out, c.send_rows);
    write_list(out, c.recv_rows);
  }
  return out.str();
}

[[nodiscard]] RankCalls from_text(const std::string& text) {
  std::istringstream in{text};
  RankCalls calls;
  std::size_t count = 0;
  in >> count;
  for (std::size_t g = 0; g < count && in; ++g) {
    RecordedGroup& group = calls.groups.emplace_back();
    in >> group.name;
    group.members = read_list<int>(in);
  }
  in >> count;
  for (std::size_t i = 0; i < count && in; ++i) {
    RecordedCall& c = calls.calls.emplace_back();
    in >> c.group;
    c.op = read_enum<Operation>(in);
    in >> c.bytes;
    c.type = read_enum<ElementType>(in);
    c.reduce = read_enum<ReduceOp>(in);
    in >> c.peer >> c.batch;
    c.send_rows = read_list<std::int64_t>(in);
    c.recv_rows = read_list<std::int64_t>(in);
  }
  expect(!in.fail(), "a log of calls cannot be read back");
  return calls;
}

}  // namespace

int CallLog::open_group(RecordedGroup group) {
  expect(!group.name.empty() && group.name.find(' ') == std::string::npos,
         "the name of a recorded group is one word");
  calls_.groups.push_back(std::move(group));
  return static_cast<int>(calls_.groups.size()) - 1;
}

void CallLog::add(RecordedCall call) {
  expect(call.group >= 0 && call.group < std::ssize(calls_.groups), "the group was not opened");
  calls_.calls.push_back(std::move(call));
}

std::vector<RankCalls> gather_calls(const Communicator& world, const RankCalls& mine) {
  std::vector<RankCalls> all;
  for (const std::string& text : world.gather_strings(to_text(mine), 0)) {
    all.push_back(from_text(text));
  }
  return all;
}

}  // namespace shoal::comm
