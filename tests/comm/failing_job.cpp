// A job that goes wrong on rank 1, for tests of how the others end. Argument: throw | hang.
#include <chrono>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

#include "shoal/base/error.hpp"
#include "shoal/comm/communicator.hpp"
#include "shoal/comm/environment.hpp"
#include "shoal/comm/watchdog.hpp"

namespace {

using shoal::comm::Communicator;
using shoal::comm::Environment;
using shoal::comm::Watchdog;

constexpr auto kForever = std::chrono::hours{1};

void run(const Communicator& world, const std::string& how) {
  const Watchdog watchdog{world.journal(), {.timeout_s = 1.0, .poll_s = 0.1}};
  if (world.rank() == 1 && how == "throw") shoal::fail("test", "broken on purpose");
  if (world.rank() == 1 && how == "hang") std::this_thread::sleep_for(kForever);
  world.barrier();
}

}  // namespace

int main(int argc, char** argv) {
  Environment environment{argc, argv};
  try {
    run(Communicator::world(), argc > 1 ? argv[1] : "");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    Environment::abort(3);
  }
}
