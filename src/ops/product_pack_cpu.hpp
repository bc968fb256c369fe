#pragma once
#include <cstddef>
#include <cstdint>

#include "shoal/tensor/dtype.hpp"

/// Operands of a product as its kernels read them: panels of 16 outer indices (rows of op(a) or
/// columns of op(b)), each a run of tiles of 16 x 16 words of 32 bits. A word is one fp32 value, or
/// two bf16 values of neighbouring inner indices. Missing rows, columns and words are zeros.
namespace shoal::ops::cpu {

inline constexpr std::int64_t kPanel = 16;
inline constexpr std::int64_t kTileWords = kPanel * kPanel;

enum class Word { f32, bf16_pair };
[[nodiscard]] constexpr std::int64_t elements_of(Word word) {
  return word == Word::f32 ? 1 : 2;
}

/// Which index runs along the 16 words of a line of a tile.
enum class Line {
  inner,  ///< line r: row r, as the left operand is read
  outer   ///< line k: inner word k, as the right operand is read
};

struct PackCall {
  const std::byte* source = nullptr;  ///< the first element
  std::int64_t stride = 0;            ///< elements between rows of the stored matrix
  bool inner_first = false;           ///< stored [inner, outer] instead of [outer, inner]
  std::int64_t outer = 0;
  std::int64_t inner = 0;
  DType elem = DType::f32;
  Word word = Word::f32;  ///< f32 widens bf16 and f16; bf16_pair needs elem bf16
  Line line = Line::inner;
};

/// Writes ceil(outer / 16) panels of ceil(inner / 16 words) tiles. Needs AVX-512.
void pack_panels(float* panels, const PackCall& call);

}  // namespace shoal::ops::cpu
