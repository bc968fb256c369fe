#pragma once
#include <memory>
#include <string>
#include <vector>

#include "comm/side_queue.hpp"

namespace shoal::comm {

/// A stream beside without a device: writes down "mark 2 beside", "wait 2" (of the Exec's stream).
class RecordingQueue final : public SideQueue {
 public:
  explicit RecordingQueue(std::shared_ptr<std::vector<std::string>> lines)
      : lines_{std::move(lines)} {}
  /// An address that no Exec has; nobody reads it.
  [[nodiscard]] CUstream_st* stream() override { return reinterpret_cast<CUstream_st*>(&place_); }
  void mark(int point, CUstream_st* stream) override { add("mark ", point, stream); }
  void wait(int point, CUstream_st* stream) override { add("wait ", point, stream); }

 private:
  void add(const char* what, int point, const CUstream_st* stream_of_call) {
    lines_->push_back(what + std::to_string(point) + (stream_of_call == stream() ? " beside" : ""));
  }
  std::shared_ptr<std::vector<std::string>> lines_;
  char place_ = 0;
};

}  // namespace shoal::comm
