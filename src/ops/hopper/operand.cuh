#pragma once
// One operand's part of a stage in shared memory: kOuter rows (of a) or columns (of b) of c by
// kStageInner inner indices, as one or more boxes of the copy engine.
#include "ops/hopper/tma.cuh"
#include "ops/hopper/wgmma.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kStageInner = 64;
inline constexpr int kBoxRowBytes = 128;
inline constexpr unsigned kSwizzleBytes = 8 * kBoxRowBytes;  // eight rows repeat the swizzle

/// kInnerFirst: global memory holds [inner][outer], and a box is 64 inner indices by 64 outer ones;
/// otherwise it holds [outer][inner], and a box is 128 outer indices by 64 inner ones.
template <int kOuter, bool kInnerFirst>
struct Operand {
  static constexpr int kBoxOuter = kInnerFirst ? kBoxRow : 128;
  static constexpr int kBoxRows = kInnerFirst ? kStageInner : kBoxOuter;
  static constexpr unsigned kBoxBytes = kBoxRows * kBoxRowBytes;
  static constexpr int kBoxes = kOuter / kBoxOuter;
  static constexpr unsigned kBytes = kBoxes * kBoxBytes;

  /// Starts the copies of a stage. `outer(box)` is the first outer index of a box.
  template <class Outer>
  __device__ static void load(unsigned shared, const CUtensorMap& map, int matrix, int inner,
                              const Outer& outer, const Barrier& full) {
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      const BoxOrigin at = kInnerFirst
                               ? BoxOrigin{.matrix = matrix, .row = inner, .column = outer(box)}
                               : BoxOrigin{.matrix = matrix, .row = outer(box), .column = inner};
      copy_box(shared + static_cast<unsigned>(box) * kBoxBytes, map, at, full);
    }
  }

  /// Outer indices from `outer` on, inner ones [inner, inner + kProductInner) of the stage.
  __device__ static std::uint64_t descriptor(unsigned shared, int outer, int inner) {
    if constexpr (kInnerFirst) {
      const int offset = outer / kBoxRow * static_cast<int>(kBoxBytes) + inner * kBoxRowBytes;
      return operand_descriptor(shared + static_cast<unsigned>(offset), kBoxBytes, kSwizzleBytes);
    } else {
      const int offset = outer * kBoxRowBytes + inner * 2;
      return operand_descriptor(shared + static_cast<unsigned>(offset), 16, kSwizzleBytes);
    }
  }

  /// Zeros inner indices from `inner` on of boxes [box, box + boxes); the swizzle leaves whole rows
  /// in place. The threads of one warpgroup call.
  __device__ static void clear_inner_from(unsigned char* shared, int inner, int box, int boxes) {
    static_assert(kInnerFirst);
    const int units = (kStageInner - inner) * (kBoxRowBytes / 16);
    for (int i = static_cast<int>(threadIdx.x) % kWarpgroup; i < boxes * units; i += kWarpgroup) {
      auto* target = shared + static_cast<unsigned>(box + i / units) * kBoxBytes;
      reinterpret_cast<uint4*>(target + inner * kBoxRowBytes)[i % units] = uint4{0, 0, 0, 0};
    }
  }
};

}  // namespace shoal::ops::cuda::hopper
