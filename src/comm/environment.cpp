#include "shoal/comm/environment.hpp"

#include <mpi.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "comm/mpi_check.hpp"

namespace shoal::comm {
namespace {

/// What MPI_Abort and the work before it get before the process leaves on its own.
constexpr auto kAbortGrace = std::chrono::seconds{2};

}  // namespace

Environment::Environment(int& argc, char**& argv) {
  expect(!active(), "MPI is started once per process");
  int provided = 0;
  check_mpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided));
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  expect(provided >= MPI_THREAD_FUNNELED, "this MPI library allows no threads beside it");
}

Environment::~Environment() {
  MPI_Finalize();
}

void Environment::abort(int code, const std::function<void()>& first) noexcept {
  // MPI_Abort may itself wait for a lost peer; this thread is the promise that nothing hangs.
  std::thread{[code] {
    std::this_thread::sleep_for(kAbortGrace);
    ::_exit(code);
  }}.detach();
  if (first) first();
  if (active()) MPI_Abort(MPI_COMM_WORLD, code);
  ::_exit(code);
}

bool Environment::active() {
  int started = 0, finished = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&finished);
  return started != 0 && finished == 0;
}

std::string Environment::version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  check_mpi(MPI_Get_library_version(text, &length));
  const std::string all(text, static_cast<std::size_t>(length));
  return all.substr(0, all.find_first_of(",\n"));
}

std::string Environment::host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "unknown host";
}

}  // namespace shoal::comm
