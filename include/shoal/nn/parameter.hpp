#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "shoal/tensor/view.hpp"

namespace shoal::nn {

/// One dimension of a slice: `count` blocks of `block` consecutive indices, starts `stride` apart.
/// Dealing KV groups round-robin over tp ranks is (rank * block, tp * block, groups / tp, block).
struct SliceDim {
  std::int64_t start = 0;
  std::int64_t stride = 0;
  std::int64_t count = 1;
  std::int64_t block = 0;
  [[nodiscard]] std::int64_t size() const { return count * block; }
  bool operator==(const SliceDim&) const = default;
};

/// The part of a global tensor that one rank holds: one SliceDim for each dimension.
using Slice = std::vector<SliceDim>;
[[nodiscard]] Slice whole(const Shape& shape);
[[nodiscard]] Shape local_shape(const Slice& slice);

/// How a parameter starts. Normal values are a function of (seed, stream, global index) only.
struct Initializer {
  enum class Kind { normal, constant };
  Kind kind = Kind::normal;
  float value = 0.02F;  ///< standard deviation, or the constant
};

/// Axes of the rank grid along which ranks hold the same values of a parameter, as bits: gradients
/// are summed over exactly these, and the global norm counts each element once.
enum ReplicaAxes : unsigned { kNoAxis = 0, kDp = 1, kCp = 2, kTp = 4, kEdp = 8, kPp = 16 };

/// The one description of a parameter; initialisation, reduction, norm, decay groups, optimizer
/// sharding, checkpoint, import and export all derive from it (DESIGN section 3).
struct ParameterSpec {
  std::string name;  ///< logical, e.g. "layers.3.mlp.experts.gate_proj" (all: model_layout.hpp)
  Shape shape;       ///< global
  Slice slice;       ///< this rank's part
  Initializer init;
  std::uint32_t stream = 0;  ///< random stream: the same on every rank and layout
  bool decay = true;         ///< weight decay applies (not to norms, biases, gates)
  bool keep_f32 = false;     ///< stored in fp32 whatever the precision (router, gate)
  unsigned replicas = kDp | kCp;
};

/// Where the local elements of a parameter lie in its flat buffer: element j of part i is at
/// offset + i * stride + j, j < inner. Parts allow fused storage such as [E, gate|up, D].
struct StorageMap {
  std::int64_t offset = 0;
  std::int64_t parts = 1;
  std::int64_t stride = 0;
  std::int64_t inner = 0;
  [[nodiscard]] std::int64_t elements() const { return parts * inner; }
};

struct Parameter {
  ParameterSpec spec;
  StorageMap storage;  ///< in the elem buffer, or in the f32 buffer when spec.keep_f32
  int tensor = 0;      ///< handle of the fused tensor that it is part of
};

/// Several logical parameters that modules use as one tensor (qkv; gate and up of all experts).
struct FusedTensor {
  Shape shape;              ///< local
  std::int64_t offset = 0;  ///< in the buffer of its dtype
  bool keep_f32 = false;
};

/// A contiguous range of one flat buffer with one treatment by the optimizer.
struct OptimizerRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool keep_f32 = false;
  bool decay = true;
};

/// All parameters of a rank and where they lie: pure data, no memory. Elements live in two flat
/// buffers, `elem` (the working precision) and `f32`; inside each, decayed parameters come first.
/// Fused tensors start at multiples of kAlign elements; the gaps hold zeros and belong to the
/// ranges. Gradients are one f32 buffer: first those of the elem buffer, then those of the f32
/// buffer.
class ParameterLayout {
 public:
  using Handle = int;  ///< of a fused tensor
  static constexpr std::int64_t kAlign = 64;

  /// Declares parameters stored one after another as one tensor of local shape `fused` (for one
  /// parameter: its own shape). With `interleave` > 1, parts of the parameters alternate: part i of
  /// each in turn, `interleave` parts in all (gate and up of each expert).
  Handle add(std::vector<ParameterSpec> specs, Shape fused, std::int64_t interleave = 1);
  /// Fixes all offsets; call once, after the last add().
  void finish();

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  [[nodiscard]] const Parameter& find(std::string_view name) const;  ///< Error when unknown
  [[nodiscard]] const FusedTensor& fused(Handle handle) const;
  [[nodiscard]] std::int64_t elem_count() const { return elem_count_; }
  [[nodiscard]] std::int64_t f32_count() const { return f32_count_; }
  [[nodiscard]] const std::vector<OptimizerRange>& ranges() const { return ranges_; }
  /// Offset of a parameter's buffer in the gradient buffer: 0 for elem, elem_count() for f32.
  [[nodiscard]] std::int64_t gradient_base(bool keep_f32) const {
    return keep_f32 ? elem_count_ : 0;
  }

 private:
  struct Group {
    std::vector<int> members;  // indices of parameters_
    Shape shape;
    std::int64_t interleave = 1;
  };
  [[nodiscard]] const Parameter& front(const Group& group) const;
  std::int64_t place(bool keep_f32, bool decay, std::int64_t offset);

  std::vector<Parameter> parameters_;
  std::vector<Group> groups_;
  std::vector<FusedTensor> fused_;
  std::vector<OptimizerRange> ranges_;
  std::int64_t elem_count_ = 0;
  std::int64_t f32_count_ = 0;
};

/// A weight as a module sees it.
struct Weight {
  TensorView value;  ///< elem or f32
  TensorView grad;   ///< f32; absent in inference
};

/// The memory of a layout on one device.
class ParameterStore {
 public:
  /// Takes persistent arena memory for values and, with `gradients`, for gradients; all zero. The
  /// layout outlives the store.
  ParameterStore(const Exec& exec, const ParameterLayout& layout, DType elem, bool gradients);

  [[nodiscard]] const ParameterLayout& layout() const { return *layout_; }
  [[nodiscard]] DType elem_dtype() const { return elem_.dtype(); }
  [[nodiscard]] Weight weight(ParameterLayout::Handle handle) const;
  [[nodiscard]] const TensorView& elem_values() const { return elem_; }  ///< [elem_count]
  [[nodiscard]] const TensorView& f32_values() const { return f32_; }    ///< [f32_count]
  [[nodiscard]] const TensorView& gradients() const { return grad_; }    ///< [elem + f32 counts]
  /// Values (or gradients) of a range, for the optimizer.
  [[nodiscard]] TensorView values(const OptimizerRange& range) const;
  [[nodiscard]] TensorView gradients(const OptimizerRange& range) const;

 private:
  const ParameterLayout* layout_;
  TensorView elem_, f32_, grad_;
};

/// fp32 initial values of one parameter's local elements, in storage order of its slice (row-major
/// over the local shape), the same on any layout. `first`, `count`: a window, so that callers can
/// bound their memory.
[[nodiscard]] std::vector<float> initial_values(const ParameterSpec& spec, std::uint64_t seed,
                                                std::int64_t first, std::int64_t count);

/// The same on a device: values (f32 or elem) = local elements [first, ...) of a parameter.
void fill_initial(const Exec& exec, const ParameterSpec& spec, std::uint64_t seed,
                  std::int64_t first, const TensorView& values);

/// A run of elements of one flat buffer: `values` (f32 or elem) are elements [first, first + n).
struct InitialWindow {
  TensorView values;
  std::int64_t first = 0;
  bool keep_f32 = false;  ///< which buffer
  std::uint64_t seed = 0;
};
/// Initial values of a window, computed on its device; the same bits on any device and layout.
/// Gaps between parameters become zero. Optimizers fill fp32 masters with it, window by window.
void fill_initial(const Exec& exec, const ParameterLayout& layout, const InitialWindow& window);
/// Fills all values of a store.
void initialise(const Exec& exec, const ParameterStore& store, std::uint64_t seed);

}  // namespace shoal::nn
