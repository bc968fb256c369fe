#pragma once
#include <memory>
#include <string>

#include "comm/transport.hpp"
#include "shoal/comm/communicator.hpp"

namespace shoal::comm {

struct Communicator::Parts {
  std::unique_ptr<Transport> transport;
  std::shared_ptr<Journal> journal;
  std::string name;
  bool verify_sizes;
  std::uint64_t group_id = 0;
};

/// Open while one operation runs: enters it into the journal, so that the watchdog sees it. After
/// an exception the entry stays open on purpose: the trace shows where this rank left.
class Communicator::Gate {
 public:
  Gate(Journal& journal, std::int64_t sequence)
      : journal_{journal}, sequence_{sequence}, exceptions_{std::uncaught_exceptions()} {}
  ~Gate() {
    if (std::uncaught_exceptions() == exceptions_) journal_.end(sequence_);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

 private:
  Journal& journal_;
  std::int64_t sequence_;
  int exceptions_;
};

}  // namespace shoal::comm
