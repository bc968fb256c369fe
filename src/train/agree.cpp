#include "train/agree.hpp"

#include <exception>

#include "shoal/base/error.hpp"

namespace shoal::train {

std::string on_root(const Communicator& world, const std::function<std::string()>& work) {
  const std::string good = "g";  // the first letter says how it went
  const std::string input_error = "i";
  const std::string error_text = "e";
  std::string message;
  if (world.is_root()) {
    try {
      message = good + work();
    } catch (const InputError& error) {
      message = input_error + error.what();
    } catch (const std::exception& error) {
      message = error_text + error.what();
    }
  }
  message = world.broadcast_string(message, 0);
  const std::string outcome = message.substr(0, 1);
  message.erase(0, 1);
  if (outcome == input_error) throw InputError{message};
  if (outcome == error_text) throw Error{message};
  return message;
}

}  // namespace shoal::train
