#pragma once
#include <string>
#include <vector>

#include "harness.hpp"
#include "shoal/io/h5_file.hpp"

namespace shoal::nn::test {

/// A file of reference values (tests/golden/README.md).
class Golden {
 public:
  explicit Golden(const std::string& name);  ///< "model_softmax"

  [[nodiscard]] std::int64_t integer(const char* key) const {
    return file_.int_attribute("/", key);
  }
  [[nodiscard]] double real(const char* key) const { return file_.double_attribute("/", key); }
  [[nodiscard]] bool flag(const char* key) const { return integer(key) != 0; }
  [[nodiscard]] std::string text(const char* key) const { return file_.string_attribute("/", key); }
  template <class T>
  [[nodiscard]] std::vector<T> values(const std::string& path) const {
    return file_.dataset(path).read_all<T>();
  }
  [[nodiscard]] std::vector<float> floats(const std::string& path) const {
    return values<float>(path);
  }
  [[nodiscard]] std::vector<std::string> list(const std::string& group) const {
    return file_.has(group) ? file_.list(group) : std::vector<std::string>{};
  }
  [[nodiscard]] ModelConfig config() const;
  [[nodiscard]] HostBatch batch() const;
  /// Scales of a step that consists of this micro-batch.
  [[nodiscard]] Scales scales() const;

 private:
  void read_experts(ModelConfig& config) const;
  io::H5File file_;
};

/// The model of a golden file with its weights and biases.
struct GoldenModel {
  GoldenModel(Exec& exec, const Golden& golden, DType elem);
  Harness harness;
};

}  // namespace shoal::nn::test
