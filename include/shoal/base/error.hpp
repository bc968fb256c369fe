#pragma once
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace shoal {

using Where = std::source_location;  // as a default argument it records the caller: no macro

/// Anything the run cannot survive; what() starts with file:line and the failing API's own text.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The user's input is wrong (a file, a key, a layout): exit code 2, and what() needs no file:line.
struct InputError : Error {
  using Error::Error;
};

[[noreturn]] void fail(std::string_view api, std::string_view text, Where at = Where::current());

/// Always-on invariant: throws Error with the caller's position when `condition` is false.
inline void expect(bool condition, std::string_view text, Where at = Where::current()) {
  if (!condition) [[unlikely]]
    fail("invariant", text, at);
}

/// Throws InputError when `condition` is false. Use for everything that a user can get wrong.
void require(bool condition, std::string_view text);

/// Process exit codes, part of the contract with job scripts.
enum class ExitCode : int {
  finished = 0,
  failure = 1,         ///< an unexpected error; the message names rank, host and cause
  bad_input = 2,       ///< nothing was started; all problems were printed
  can_continue = 75,   ///< stopped early with a checkpoint: requeue
  do_not_restart = 93  ///< restarting would fail the same way
};

}  // namespace shoal
