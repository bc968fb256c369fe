// A job that goes wrong on rank 1, for tests of how the others end. Argument:
// throw | hang | stop | kill | late. With `late` rank 1 waits in another group for rank 2, which
// sleeps, while the others wait for rank 1.
#include <chrono>
#include <csignal>
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
  Watchdog watchdog{world, {.timeout_s = 1.0, .poll_s = 0.1}};
  watchdog.set_before_abort([] { std::cerr << "the work of the device was ended\n"; });
  const auto pairs = world.split({.color = world.rank() == 0 ? 0 : 1, .name = "pair"});
  for (int i = 0; i < 3; ++i) world.barrier();
  if (world.rank() == 1 && how == "throw") shoal::fail("test", "broken on purpose");
  if (world.rank() == 1 && how == "hang") std::this_thread::sleep_for(kForever);
  if (world.rank() == 1 && how == "stop") ::raise(SIGSTOP);
  if (world.rank() == 1 && how == "kill") ::raise(SIGKILL);
  if (world.rank() == 2 && how == "late") std::this_thread::sleep_for(kForever);
  if (world.rank() == 1 && how == "late") pairs.barrier();
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
