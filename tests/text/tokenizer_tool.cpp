// A command line around the text layer, for comparisons and measurements:
//   tokenizer_tool train VOCAB_SIZE SPLIT FILE...      prints tokenizer.json
//   tokenizer_tool encode TOKENIZER.json               NUL-separated texts in, a line of ids for
//   each tokenizer_tool speed TOKENIZER.json FILE...        MB/s a core of cleaning and encoding
#include <algorithm>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "shoal/base/clock.hpp"
#include "shoal/base/error.hpp"
#include "shoal/text/bpe_trainer.hpp"
#include "shoal/text/clean.hpp"
#include "shoal/text/tokenizer.hpp"

namespace {

using shoal::text::Tokenizer;

std::string read(std::istream& in) {
  return {std::istreambuf_iterator<char>{in}, {}};
}

std::string read_file(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  shoal::require(in.good(), path + ": cannot be opened");
  return read(in);
}

void train(const std::vector<std::string>& args) {
  shoal::text::BpeTrainConfig config{.vocab_size = std::stoll(args.at(0)), .split = args.at(1)};
  shoal::text::WordCounts counts{shoal::text::parse_split_rule(config.split)};
  shoal::Stopwatch watch;
  for (std::size_t i = 2; i < args.size(); ++i) counts.add_text(read_file(args[i]));
  const double counted = watch.seconds();
  std::cout << shoal::text::train_bpe(counts, config)->to_json();
  std::cerr << counts.distinct() << " words counted in " << counted << " s, trained in "
            << watch.seconds() - counted << " s\n";
}

void encode(const Tokenizer& tokenizer) {
  const std::string all = read(std::cin);
  std::string line;
  for (std::size_t from = 0; from < all.size();) {
    const std::size_t stop = std::min(all.find('\0', from), all.size());
    std::vector<std::uint32_t> ids;
    tokenizer.encode(std::string_view{all}.substr(from, stop - from), ids);
    line.clear();
    for (const std::uint32_t id : ids) line += std::to_string(id) + " ";
    std::cout << line << '\n';
    from = stop + 1;
  }
}

/// Processor seconds: what others do on the machine does not count.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

void speed(const Tokenizer& tokenizer, const std::vector<std::string>& files) {
  shoal::text::Cleaner cleaner{{}};
  shoal::text::CleanReport report;
  std::vector<std::uint32_t> ids;
  std::string text;
  double clean_s = 0, key_s = 0, encode_s = 0;
  std::int64_t tokens = 0;
  for (const std::string& path : files) {
    const std::string raw = read_file(path);
    const double start = cpu_seconds();
    const bool kept = cleaner.clean(raw, text, report);
    const double cleaned = cpu_seconds();
    clean_s += cleaned - start;
    if (!kept) continue;
    (void)shoal::text::dedup_key(text);
    const double keyed = cpu_seconds();
    key_s += keyed - cleaned;
    ids.clear();
    tokenizer.encode_ordinary(text, ids);
    encode_s += cpu_seconds() - keyed;
    tokens += static_cast<std::int64_t>(ids.size());
  }
  using Report = shoal::text::CleanReport;
  const double megabytes = static_cast<double>(report[Report::bytes_in]) * 1e-6;
  std::cout << report.describe() << "tokens                " << tokens << "\nclean MB/s            "
            << megabytes / clean_s << "\ndedup key MB/s        " << megabytes / key_s
            << "\nencode MB/s           " << megabytes / encode_s << "\nall MB/s              "
            << megabytes / (clean_s + key_s + encode_s) << '\n';
}

int run(const std::vector<std::string>& args) {
  const std::string command = args.empty() ? "" : args[0];
  if (command == "train" && args.size() > 3) {
    train({args.begin() + 1, args.end()});
  } else if (command == "encode" && args.size() == 2) {
    encode(*shoal::text::load_tokenizer(args[1]));
  } else if (command == "speed" && args.size() > 2) {
    speed(*shoal::text::load_tokenizer(args[1]), {args.begin() + 2, args.end()});
  } else {
    throw shoal::InputError{"usage: tokenizer_tool train|encode|speed ..."};
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
}
