#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "shoal/io/h5_file.hpp"
#include "shoal/nn/parameter.hpp"
#include "shoal/optim/optimizer.hpp"
#include "train/boxes.hpp"

/// How the elements of parameters move between a rank's memory and files.
namespace shoal::train {

/// One tensor that a checkpoint holds for each parameter: its master weights or a state.
struct Field {
  std::string group;  ///< "weights", "optimizer/m", ...
  io::H5Type type = io::H5Type::f32;
  bool held_only = false;  ///< exists for the rows that a rank holds, not for all of its slice
  /// Local elements [first, first + count) of a parameter.
  struct Window {
    int parameter = 0;  ///< index in ParameterLayout::parameters()
    std::int64_t first = 0;
    std::int64_t count = 0;
  };
  /// Between host memory and the device; may wait.
  std::function<void(const Window&, std::byte*)> get;
  std::function<void(const Window&, const std::byte*)> set;
};
/// Everything of an optimizer: weights first, then m, v, u where the kind has them. Weights can be
/// set everywhere, but read back only where they are held.
[[nodiscard]] std::vector<Field> optimizer_fields(const Exec& exec,
                                                  const optim::Optimizer& optimizer);
/// Only the working weights of a store; can be set, not read back.
[[nodiscard]] Field weight_field(const Exec& exec, const nn::ParameterStore& store);

/// A field of one parameter.
struct FieldOfParameter {
  const Field* field = nullptr;
  const nn::ParameterSpec* spec = nullptr;
  int parameter = 0;
};
/// Writes local elements [first, first + count) front to back.
void write_local(io::H5Stream& stream, const FieldOfParameter& what, std::int64_t first,
                 std::int64_t count);
/// Fills these rows of the local slice from the global dataset.
void read_global(const io::H5Dataset& dataset, const FieldOfParameter& what,
                 const parallel::RowRange& rows);

}  // namespace shoal::train
