#pragma once
#include <cstdint>
#include <memory>
#include <utility>

namespace shoal::comm {

/// A message on its way. Its memory must stay untouched until it is done.
class PendingSend {
 public:
  /// What a transport knows about it.
  class Request {
   public:
    virtual ~Request() = default;
    [[nodiscard]] virtual bool done() = 0;
    virtual void wait() = 0;
  };

  PendingSend() = default;  ///< nothing under way
  explicit PendingSend(std::unique_ptr<Request> request) : request_{std::move(request)} {}

  /// Whether the receiver has the message, or the transport a copy of it.
  [[nodiscard]] bool done() {
    if (request_ && request_->done()) request_.reset();
    return !request_;
  }
  void wait() {
    if (request_) request_->wait();
    request_.reset();
  }

 private:
  std::unique_ptr<Request> request_;
};

}  // namespace shoal::comm
