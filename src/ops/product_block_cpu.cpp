#include "ops/product_block_cpu.hpp"

#include "ops/product_pack_cpu.hpp"
#include "shoal/base/error.hpp"

#if defined(__x86_64__)
// GCC 12 takes the undefined operands inside its own intrinsics for a mistake (its bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,amx-tile,amx-bf16")

namespace shoal::ops::cpu {
namespace {

constexpr std::int64_t kSlice = 8;  // rows whose sums stay in registers

struct FusedMultiplyAdd {
  static __m512 run(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
};
struct PairDot {
  static __m512 run(__m512 sum, __m512 a, __m512 b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};

/// kSlice rows of sums against `panels` panels of b.
template <class Step, int panels>
void run_slice(const float* a, const float* b, std::int64_t tiles, float* sums) {
  __m512 sum[kSlice][panels];
#pragma GCC unroll 8
  for (int r = 0; r < kSlice; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) sum[r][p] = _mm512_setzero_ps();
  }
  for (std::int64_t t = 0; t < tiles; ++t, a += kTileWords, b += kTileWords) {
    for (std::int64_t k = 0; k < kPanel; ++k) {
      __m512 column[panels];
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) {
        column[p] = _mm512_load_ps(b + p * tiles * kTileWords + k * kPanel);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kSlice; ++r) {
        const __m512 row = _mm512_set1_ps(a[r * kPanel + k]);
#pragma GCC unroll 2
        for (int p = 0; p < panels; ++p) sum[r][p] = Step::run(sum[r][p], row, column[p]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kSlice; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) _mm512_store_ps(sums + r * kBlock + p * kPanel, sum[r][p]);
  }
}

template <class Step>
void run_slices(const BlockCall& c) {
  for (std::int64_t r = 0; r < c.rows; r += kSlice) {
    const float* a = c.a + r / kPanel * c.tiles * kTileWords + r % kPanel * kPanel;
    if (c.columns > kPanel) {
      run_slice<Step, 2>(a, c.b, c.tiles, c.sums + r * kBlock);
    } else {
      run_slice<Step, 1>(a, c.b, c.tiles, c.sums + r * kBlock);
    }
  }
}

/// The memory layout that LDTILECFG reads, palette 1: eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kTileConfig;

constexpr int kTileStride = 64;  // bytes of a line of a packed tile
constexpr int kSumStride = kBlock * static_cast<int>(sizeof(float));

void load_config() {
  _tile_loadconfig(&kTileConfig);
}
void release() {
  _tile_release();
}

}  // namespace

void block_avx512(const BlockCall& call) {
  run_slices<FusedMultiplyAdd>(call);
}
void block_avx512_bf16(const BlockCall& call) {
  run_slices<PairDot>(call);
}

/// Tiles 0 to 3 hold the sums, 4 and 5 the two panels of a, 6 and 7 those of b.
void block_amx(const BlockCall& c) {
  const std::int64_t panel = c.tiles * kTileWords;
  const bool two_rows = c.rows > kPanel, two_columns = c.columns > kPanel;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t t = 0; t < panel; t += kTileWords) {
    _tile_loadd(4, c.a + t, kTileStride);
    _tile_loadd(6, c.b + t, kTileStride);
    _tile_dpbf16ps(0, 4, 6);
    if (two_columns) {
      _tile_loadd(7, c.b + panel + t, kTileStride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (two_rows) {
      _tile_loadd(5, c.a + panel + t, kTileStride);
      _tile_dpbf16ps(2, 5, 6);
      if (two_columns) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c.sums, kSumStride);
  _tile_stored(1, c.sums + kPanel, kSumStride);
  _tile_stored(2, c.sums + kPanel * kBlock, kSumStride);
  _tile_stored(3, c.sums + kPanel * kBlock + kPanel, kSumStride);
}

AmxTiles::AmxTiles(bool wanted) : wanted_{wanted} {
  if (wanted_) load_config();
}
AmxTiles::~AmxTiles() {
  if (wanted_) release();
}

}  // namespace shoal::ops::cpu
#pragma GCC pop_options
#else

namespace shoal::ops::cpu {
void block_avx512(const BlockCall&) {
  fail("product", "this kernel needs AVX-512");
}
void block_avx512_bf16(const BlockCall&) {
  fail("product", "this kernel needs AVX-512");
}
void block_amx(const BlockCall&) {
  fail("product", "this kernel needs AMX");
}
AmxTiles::AmxTiles(bool wanted) : wanted_{wanted} {}
AmxTiles::~AmxTiles() = default;
}  // namespace shoal::ops::cpu

#endif
