#pragma once
#include <mpi.h>

#include <string>

#include "shoal/base/error.hpp"

namespace shoal::comm {

[[nodiscard]] inline std::string mpi_error_text(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return {text, static_cast<std::size_t>(length)};
}

/// Needs MPI_ERRORS_RETURN on the communicator; under the default handler errors never return.
inline void check_mpi(int code, Where at = Where::current()) {
  if (code != MPI_SUCCESS) fail("MPI", mpi_error_text(code), at);
}

}  // namespace shoal::comm
