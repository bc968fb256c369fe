#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "shoal/io/h5_file.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/optim/optimizer.hpp"

/// How the elements of a parameter lie in memory, in a rank's file and in the global tensor.
namespace shoal::train {

/// Local elements [local, local + count) of a parameter lie at [offset, ...) of its flat buffer.
struct Segment {
  std::int64_t local = 0;
  std::int64_t offset = 0;
  std::int64_t count = 0;
};
/// Segments of the local elements [first, first + count), in order.
[[nodiscard]] std::vector<Segment> segments(const nn::StorageMap& map, std::int64_t first,
                                            std::int64_t count);

/// A box of the global tensor and where it lies in this rank's local tensor.
struct BoxPair {
  io::Slab local;
  io::Slab global;
};
/// A slice as boxes, each cut along its first dimension to about `max_elements`.
[[nodiscard]] std::vector<BoxPair> boxes(const nn::Slice& slice, std::int64_t max_elements);

/// Calls f(local element, element of the box, count) for each contiguous run of a box.
struct BoxRun {
  std::int64_t local = 0;
  std::int64_t in_box = 0;
  std::int64_t count = 0;
};
void for_each_run(const Shape& local_shape, const io::Slab& box,
                  const std::function<void(const BoxRun&)>& f);

/// One tensor that a checkpoint holds for each parameter: its master weights or a state.
struct Field {
  std::string group;  ///< "weights", "optimizer/m", ...
  /// Element type for a parameter of the elem or the f32 buffer; both absent states are skipped.
  std::function<bool(bool keep_f32)> present;
  std::function<io::H5Type(bool keep_f32)> type;
  /// Between host memory and a segment of the flat buffer; may wait.
  struct Target {
    bool keep_f32 = false;
    Segment segment;
  };
  std::function<void(const Target&, std::byte*)> get;
  std::function<void(const Target&, const std::byte*)> set;
};
/// Everything of an optimizer: weights first, then m, v, u where the kind has them.
[[nodiscard]] std::vector<Field> optimizer_fields(const Exec& exec,
                                                  const optim::Optimizer& optimizer);
/// Only the working weights of a store; can be set, not read back.
[[nodiscard]] Field weight_field(const Exec& exec, const nn::ParameterStore& store);

/// Writes all local elements of a parameter front to back.
struct FieldOfParameter {
  const Field* field = nullptr;
  const nn::Parameter* parameter = nullptr;
};
void write_local(io::H5Stream& stream, const FieldOfParameter& what);
/// Fills all local elements from the global dataset.
void read_global(const io::H5Dataset& dataset, const FieldOfParameter& what);
/// Fills all local elements with initial values.
void fill_initial(const FieldOfParameter& what, std::uint64_t seed);

}  // namespace shoal::train
