#pragma once
#include <functional>
#include <span>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/device/exec.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/tensor/view.hpp"
#include "shoal/train/calibration.hpp"
#include "train/measure_time.hpp"

namespace shoal::train {

struct Product {
  std::int64_t m, n, k;
};

/// Sizes of the timed ops: large enough to reach the device's steady speed.
struct Sizes {
  std::span<const Product> products;
  std::int64_t tokens, hidden, width, vocabulary, sequence, heads, parameters;
};
[[nodiscard]] Sizes sizes_for(bool gpu);

/// Times one op after another; tensors live as long as the op that needs them.
class RateProbe {
 public:
  RateProbe(const Exec& exec, DType elem, const Communicator& world)
      : exec_{exec}, elem_{elem}, world_{world}, sizes_{sizes_for(exec.on_gpu())} {}

  [[nodiscard]] double launch() const {
    const ScratchScope scope{exec_};
    const TensorView x = random({8}, DType::f32);
    return time([&] { ops::fill(exec_, x, 0.0F); });
  }
  [[nodiscard]] double copy_rate() const {
    const ScratchScope scope{exec_};
    const TensorView from = random({sizes_.parameters}, DType::f32);
    const TensorView to = scratch(exec_, from.shape(), DType::f32);
    const double seconds =
        time([&] { copy(exec_, to.bytes_begin(), from.bytes_begin(), from.bytes()); });
    return 2.0 * static_cast<double>(from.bytes()) / seconds;
  }
  [[nodiscard]] MatmulRate dense() const;
  [[nodiscard]] MatmulRate grouped() const;
  void attention(ComputeRates& rates) const;
  [[nodiscard]] double norm() const;
  [[nodiscard]] double swiglu() const;
  [[nodiscard]] double permute() const;
  [[nodiscard]] double cross_entropy() const;
  [[nodiscard]] double optimizer() const;

 private:
  [[nodiscard]] double time(const std::function<void()>& work) const {
    return cold_time_of(exec_, world_, work);
  }
  [[nodiscard]] TensorView random(Shape shape, DType dtype) const {
    const TensorView x = scratch(exec_, shape, dtype);
    ops::fill_normal(exec_, {.y = x, .seed = 1, .std = 0.1F});
    return x;
  }
  [[nodiscard]] TensorView random(Shape shape) const { return random(shape, elem_); }
  [[nodiscard]] TensorView integers(const std::vector<std::int32_t>& values, Shape shape) const {
    const TensorView x = scratch(exec_, shape, DType::i32);
    upload(exec_, x.bytes_begin(), values.data(), x.bytes());
    exec_.synchronize();
    return x;
  }
  void grouped_products(std::int64_t rows, std::int64_t width, std::vector<Sample>& samples) const;
  [[nodiscard]] MatmulRate rate_of(const std::vector<Sample>& samples, double launch_s) const;

  const Exec& exec_;
  DType elem_;
  const Communicator& world_;
  Sizes sizes_;
};

}  // namespace shoal::train
