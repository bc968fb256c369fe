#pragma once
// Online softmax over the scores of a warpgroup as wgmma leaves them in registers: a thread has two
// rows (halves) of 64, each shared by the four lanes of a quad.
#include "ops/attention.cuh"

namespace shoal::ops::cuda::hopper {

/// State of a thread's two rows. `maximum` is of the raw scores; `total` is this lane's share.
struct SoftmaxRows {
  float maximum[2], total[2];
};

/// Exponents may exceed zero by this much before earlier sums are scaled down: most tiles then need
/// no scaling, and 2^8 is far from the largest f16.
inline constexpr float kSlack = 8.0F;

/// A number for each of the thread's rows.
struct RowPair {
  int upper, lower;
};
/// Hides keys after the last that a row sees; keys are counted from the thread's first column.
template <int kSums>
__device__ inline void hide_later(float (&scores)[kSums], const RowPair& last) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    const int key = i / 4 * 8 + i % 2;
    if (key > (i / 2 % 2 == 0 ? last.upper : last.lower)) scores[i] = -INFINITY;
  }
}
/// Hides keys before the first that a row sees.
template <int kSums>
__device__ inline void hide_earlier(float (&scores)[kSums], const RowPair& first) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    const int key = i / 4 * 8 + i % 2;
    if (key < (i / 2 % 2 == 0 ? first.upper : first.lower)) scores[i] = -INFINITY;
  }
}

/// Largest score of the row of a half; two chains of comparisons.
template <int kSums>
__device__ inline float row_maximum(const float (&scores)[kSums], int half) {
  float even = scores[2 * half], odd = scores[2 * half + 1];
#pragma unroll
  for (int i = 4; i < kSums; i += 4) {
    even = fmaxf(even, scores[i + 2 * half]);
    odd = fmaxf(odd, scores[i + 2 * half + 1]);
  }
  return quad_max(fmaxf(even, odd));
}

/// Scores become powers 2^(scale (score - maximum)), which add to the totals.
template <int kSums>
__device__ inline void take_powers(float (&scores)[kSums], SoftmaxRows& rows, float scale) {
  const float base[2] = {rows.maximum[0] * scale, rows.maximum[1] * scale};
  float total[4] = {};
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    scores[i] = exp2_fast(fmaf(scores[i], scale, -base[i / 2 % 2]));
    total[i % 4] += scores[i];
  }
  rows.total[0] += total[0] + total[1];
  rows.total[1] += total[2] + total[3];
}

/// The first tile of a row; every row sees at least one of its keys.
template <int kSums>
__device__ inline void begin_softmax(float (&scores)[kSums], SoftmaxRows& rows, float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    rows.maximum[half] = row_maximum(scores, half);
    rows.total[half] = 0.0F;
  }
  take_powers(scores, rows, scale);
}

/// A later tile: earlier sums of a half must be multiplied by its factor. Returns whether any lane
/// of the warp has a factor other than one.
template <int kSums>
__device__ inline bool continue_softmax(float (&scores)[kSums], SoftmaxRows& rows, float scale,
                                        float (&factor)[2]) {
  bool grew = false;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float maximum = row_maximum(scores, half);
    const float above = (maximum - rows.maximum[half]) * scale;
    const bool mine = above > kSlack;
    factor[half] = mine ? exp2_fast(-above) : 1.0F;
    rows.maximum[half] = mine ? maximum : rows.maximum[half];
    rows.total[half] *= factor[half];
    grew = grew || mine;
  }
  take_powers(scores, rows, scale);
  return __any_sync(kFullWarp, grew);
}

}  // namespace shoal::ops::cuda::hopper
