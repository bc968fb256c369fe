// runner FOLDER RUN STEPS [fail | SECONDS]: the toy run under mpirun, with the exit codes of the
// program. Each rank writes its process id to FOLDER/pid-RANK. With `fail`, rank 1 throws while the
// others are already in their first collective. SECONDS is parallel.timeout_s.
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "shoal/base/log.hpp"
#include "shoal/comm/environment.hpp"
#include "train/toy.hpp"

namespace {

using namespace shoal;

int run_job(const std::vector<std::string>& arguments, const Communicator& world) {
  const std::filesystem::path folder = arguments[1];
  test::make_corpus(world, folder / "corpus");
  train::RunConfig config = test::toy_config(folder);
  config.training.run_dir = (folder / arguments[2]).string();
  config.training.steps = std::stoll(arguments[3]);
  config.optim.schedule = "constant";
  config.eval.interval = 0;
  config.checkpoint.interval = 50;
  config.checkpoint.keep_last = 2;
  std::ofstream{folder / ("pid-" + std::to_string(world.rank()))} << ::getpid() << std::endl;
  const std::string last = arguments.size() > 4 ? arguments[4] : "";
  if (last == "fail" && world.rank() == 1) throw Error{"a test made this rank fail"};
  if (!last.empty() && last != "fail") config.parallel.timeout_s = std::stod(last);
  return static_cast<int>(train::run(config, world));
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv, argv + argc);
  comm::Environment environment{argc, argv};
  const auto world = Communicator::world();
  if (!world.is_root()) log::set_sink([](log::Level, std::string_view) {});
  try {
    return run_job(arguments, world);
  } catch (const std::exception& error) {
    std::cerr << "rank " << world.rank() << ": " << error.what() << std::endl;
    comm::Environment::abort(EXIT_FAILURE);
  }
}
