#include "train/agree.hpp"

#include <exception>

#include "shoal/base/error.hpp"

namespace shoal::train {
namespace {

// The first letter of an outcome says how the work went.
constexpr char kGood = 'g';
constexpr char kInputError = 'i';
constexpr char kError = 'e';

std::string outcome_of(const std::function<std::string()>& work) {
  try {
    return kGood + work();
  } catch (const InputError& error) {
    return kInputError + std::string{error.what()};
  } catch (const std::exception& error) {
    return kError + std::string{error.what()};
  }
}

/// The text of good work; throws what went wrong.
std::string text_of(const std::string& outcome) {
  if (outcome.front() == kInputError) throw InputError{outcome.substr(1)};
  if (outcome.front() == kError) throw Error{outcome.substr(1)};
  return outcome.substr(1);
}

}  // namespace

std::string on_root(const Communicator& world, const std::function<std::string()>& work) {
  return text_of(world.broadcast_string(world.is_root() ? outcome_of(work) : "", 0));
}

void on_every_rank(const Communicator& world, const std::function<void()>& work) {
  const std::string mine = outcome_of([&work] {
    work();
    return std::string{};
  });
  for (const std::string& outcome : world.all_gather_strings(mine)) (void)text_of(outcome);
}

}  // namespace shoal::train
