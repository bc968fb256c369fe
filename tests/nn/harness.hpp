#pragma once
#include <string>
#include <vector>

#include "shoal/nn/model.hpp"
#include "shoal/nn/shard_group.hpp"
#include "shoal/nn/token_dispatcher.hpp"
#include "support/tensors.hpp"

namespace shoal::nn::test {

using namespace shoal::test;  // NOLINT: the helpers of all tests

/// A micro-batch on the host.
struct HostBatch {
  std::vector<std::int32_t> token, target, doc_start, position;
  std::vector<std::uint8_t> mask;
  std::int64_t sequence = 0;
  std::int64_t first_token = 0;
  [[nodiscard]] std::int64_t tokens() const { return static_cast<std::int64_t>(token.size()); }
  [[nodiscard]] std::int64_t targets() const;  ///< unmasked
};
/// Random tokens; every sequence is cut into documents at these places.
[[nodiscard]] HostBatch random_batch(std::int64_t sequences, std::int64_t sequence,
                                     std::int64_t vocab,
                                     const std::vector<std::int64_t>& cuts = {});
/// Sequences [first, first + count) of a batch.
[[nodiscard]] HostBatch sequences_of(const HostBatch& batch, std::int64_t first,
                                     std::int64_t count);

class DeviceBatch {
 public:
  DeviceBatch(const Exec& exec, const HostBatch& host);
  [[nodiscard]] const Batch& view() const { return view_; }

 private:
  std::vector<Tensor> tensors_;
  Batch view_;
};

/// Host values of StepScalars.
struct Scales {
  float loss = 1.0F, aux = 0.0F, z = 0.0F, budget = 0.0F;
  std::int64_t step_seed = 0;
};
class DeviceScalars {
 public:
  DeviceScalars(const Exec& exec, const Scales& scales);
  [[nodiscard]] const StepScalars& view() const { return view_; }

 private:
  Tensor values_, seed_;
  StepScalars view_;
};

/// A stage with its parameters on one Exec.
struct Harness {
  struct Options {
    ModelConfig config;
    ComputeConfig compute = {};
    DType elem = DType::f32;
    std::uint64_t seed = 1;        ///< of the initial weights
    ShardGroup* tensor = nullptr;  ///< tensor parallel group; null: a group of one
  };
  Harness(Exec& exec, const Options& options);
  Harness(Exec& exec, const Options& options, const StageRange& range);

  /// Random gate weights without bias, so that dynamic heads switch groups off.
  void open_gates();
  void set(const std::string& name, const std::vector<float>& values);
  [[nodiscard]] std::vector<float> gradient(const std::string& name) const;
  [[nodiscard]] std::vector<float> all_gradients() const {
    return download_floats(exec, store.gradients());
  }
  [[nodiscard]] float loss_sum() const {
    return download_floats(exec, model.state().loss_sum).front();
  }
  /// One step of one micro-batch; returns the summed loss.
  float train(const HostBatch& batch, const Scales& scales);
  [[nodiscard]] float evaluate(const HostBatch& batch) const;

  Exec& exec;
  ModelConfig config;
  RankLayout layout;
  ParameterStore store;
  ModelState state;
  LocalShardGroup group;
  LocalDispatcher dispatcher;
  Model model;
};

/// ||got - expected|| / ||expected||; the norm itself where nothing is expected.
[[nodiscard]] double distance(const std::vector<float>& got, const std::vector<float>& expected);

/// A small model that has everything: two MoE layers behind a dense one, shared expert, QK-norm.
[[nodiscard]] ModelConfig small_config();

}  // namespace shoal::nn::test
