// The equality matrix: layouts, schedules, recompute modes, routers, ... against one rank.
//   mpirun -np 8 layout_matrix [pairs | all | dozen] [cpu | cuda] [SECONDS] [SEED] [TEXT]
// pairs (default): every pair of two factors' values; all: the product, in an order shuffled by the
// seed, until the seconds are over; dozen: twelve rows of it. With a text only the rows whose
// description holds it, as "pp=2 ep=1 zbv" does. Exit code 1 when a row differs.
#include <algorithm>
#include <iostream>
#include <random>

#include "layout/matrix_case.hpp"
#include "shoal/base/clock.hpp"
#include "shoal/comm/environment.hpp"
#include "shoal/comm/watchdog.hpp"
#include "shoal/device/device.hpp"
#include "shoal/train/verify_layout.hpp"
#include "train/toy.hpp"

namespace {

using namespace shoal;

constexpr double kTimeout = 60.0;  ///< of one operation; a row takes a few seconds

/// All valid rows.
std::vector<test::Row> product() {
  const std::vector<int> levels = test::matrix_levels();
  std::vector<test::Row> rows = {{}};
  for (const int level : levels) {
    std::vector<test::Row> longer;
    for (const test::Row& row : rows) {
      for (int value = 0; value < level; ++value) {
        longer.push_back(row);
        longer.back().push_back(value);
      }
    }
    rows = std::move(longer);
  }
  std::erase_if(rows, [](const test::Row& row) { return !test::matrix_valid(row); });
  return rows;
}

std::vector<test::Row> ordered_rows(const std::string& which, unsigned seed) {
  if (which == "pairs") return test::pairwise(test::matrix_levels(), test::matrix_valid);
  std::vector<test::Row> rows = product();
  std::mt19937 order{seed};
  for (std::size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[order() % i]);
  return rows;
}

std::vector<test::Row> choose_rows(const std::string& which, unsigned seed,
                                   const std::string& text) {
  std::vector<test::Row> rows = ordered_rows(which, seed);
  std::erase_if(rows, [&](const test::Row& row) {
    return test::describe(row).find(text) == std::string::npos;
  });
  if (which == "dozen") rows.resize(std::min<std::size_t>(rows.size(), 12));
  return rows;
}

struct Tally {
  int rows = 0, failed = 0;
};

/// Runs one row on the first ranks of the world; all ranks agree on the verdict.
bool run_row(const test::Row& row, const train::RunConfig& config, const Communicator& world) {
  const int ranks = test::ranks_of(row);
  const bool member = world.rank() < ranks;
  const Communicator group =
      world.split({.color = member ? 0 : 1, .key = world.rank(), .name = "matrix"});
  bool good = true;
  if (member) {
    const train::VerifyReport report = train::verify_layout(config, group, {});
    if (world.is_root() && !report.passed()) {
      good = false;
      std::cout << "DIFFERS: " << test::describe(row) << "\n" << report.text() << std::flush;
    }
  }
  return world.all_reduce_value(static_cast<int>(good), comm::ReduceOp::min) != 0;
}

Tally run(const std::vector<test::Row>& rows, const std::string& device, double seconds,
          const Communicator& world) {
  const auto folder = test::fresh_folder(world, "matrix");
  test::make_corpus(world, folder / "corpus");
  const Stopwatch clock;
  Tally tally;
  for (const test::Row& row : rows) {
    if (test::ranks_of(row) > world.size()) continue;
    const double used = world.all_reduce_value(clock.seconds(), comm::ReduceOp::max);
    if (seconds > 0.0 && used > seconds) break;
    ++tally.rows;
    const Stopwatch row_clock;
    if (world.is_root()) std::cout << test::describe(row) << std::flush;
    const bool good = run_row(row, test::matrix_config(row, folder, device), world);
    if (!good) ++tally.failed;
    if (world.is_root()) std::cout << "  " << row_clock.seconds() << " s" << std::endl;
  }
  world.barrier();
  if (world.is_root()) std::filesystem::remove_all(folder);
  return tally;
}

}  // namespace

int main(int argc, char** argv) {
  comm::Environment environment{argc, argv};
  const Communicator world = Communicator::world();
  const auto argument = [&](int i, const char* otherwise) {
    return std::string{i < argc ? argv[i] : otherwise};
  };
  const std::string which = argument(1, "pairs"), device = argument(2, "cpu");
  const double seconds = std::stod(argument(3, "0"));
  const comm::Watchdog watchdog{world, {.timeout_s = kTimeout}};
  try {
    if (device == "cuda") select_cuda_device(world.rank() % std::max(1, cuda_device_count()));
    const auto seed = static_cast<unsigned>(std::stoul(argument(4, "1")));
    const auto rows = choose_rows(which, seed, argument(5, ""));
    const Stopwatch clock;
    const Tally tally = run(rows, device, seconds, world);
    if (world.is_root()) {
      std::cout << tally.rows - tally.failed << " of " << tally.rows << " layouts of "
                << rows.size() << " agree with one rank, " << clock.seconds() << " s\n";
    }
    return tally.failed == 0 && tally.rows > 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "rank " << world.rank() << ": " << error.what() << std::endl;
    comm::Environment::abort(1);
  }
}
