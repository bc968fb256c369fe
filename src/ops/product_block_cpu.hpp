#pragma once
#include <cstddef>
#include <cstdint>

#include "shoal/tensor/dtype.hpp"

/// The inmost loops of a packed product: up to 32 x 48 sums from packed panels
/// (product_pack_cpu.hpp). Each sum runs over the inner index in order, whatever surrounds it.
namespace shoal::ops::cpu {

inline constexpr std::int64_t kBlockRows = 32;
inline constexpr std::int64_t kBlockColumns = 48;     // of the AVX-512 kernels
inline constexpr std::int64_t kAmxBlockColumns = 32;  // of block_amx

struct BlockCall {
  const float* a = nullptr;  ///< ceil(rows / 16) panels of `tiles` tiles, lines along inner
  const float* b = nullptr;  ///< ceil(columns / 16) panels of `tiles` tiles, lines along outer
  std::int64_t tiles = 0;
  std::int64_t rows = 0;     ///< at most kBlockRows
  std::int64_t columns = 0;  ///< at most kBlockColumns or kAmxBlockColumns
  float* sums = nullptr;     ///< [32, 48]; beyond rows and columns: anything
};
using BlockKernel = void (*)(const BlockCall&);

void block_avx512(const BlockCall& call);       ///< fp32 words
void block_avx512_bf16(const BlockCall& call);  ///< bf16 pairs
void block_amx(const BlockCall& call);          ///< bf16 pairs, within the life of AmxTiles

/// Sums of a block on their way to c.
struct StoreCall {
  std::byte* c = nullptr;  ///< f32, bf16 or f16, the first element of the block
  DType c_type = DType::f32;
  std::int64_t c_stride = 0;        ///< elements
  float* sums = nullptr;            ///< [32, 48]
  const float* earlier = nullptr;   ///< added to the sums, or null
  std::int64_t earlier_stride = 0;  ///< floats
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool add = false;  ///< c keeps its value
};
void store_avx512(const StoreCall& call);

/// Shapes this thread's tile registers for block_amx while it lives, if wanted.
class AmxTiles {
 public:
  explicit AmxTiles(bool wanted);
  ~AmxTiles();
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

 private:
  bool wanted_;
};

}  // namespace shoal::ops::cpu
