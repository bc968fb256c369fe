#include "ops/product_block_cpu.hpp"

#include "ops/product_pack_cpu.hpp"
#include "shoal/base/error.hpp"

#if defined(__x86_64__)
// GCC 12 takes the undefined operands inside its own intrinsics for a mistake (its bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,f16c,fma,amx-tile,amx-bf16")

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
  for (int r = 0; r < kSlice; ++r) {  // NOLINT(modernize-loop-convert): registers, by number
#pragma GCC unroll 3
    for (int p = 0; p < panels; ++p) sum[r][p] = _mm512_setzero_ps();
  }
  for (std::int64_t t = 0; t < tiles; ++t, a += kTileWords, b += kTileWords) {
    for (std::int64_t k = 0; k < kPanel; ++k) {
      __m512 column[panels];
#pragma GCC unroll 3
      for (int p = 0; p < panels; ++p) {
        column[p] = _mm512_load_ps(b + p * tiles * kTileWords + k * kPanel);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kSlice; ++r) {
        const __m512 row = _mm512_set1_ps(a[r * kPanel + k]);
#pragma GCC unroll 3
        for (int p = 0; p < panels; ++p) sum[r][p] = Step::run(sum[r][p], row, column[p]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kSlice; ++r) {
#pragma GCC unroll 3
    for (int p = 0; p < panels; ++p)
      _mm512_store_ps(sums + r * kBlockColumns + p * kPanel, sum[r][p]);
  }
}

template <class Step>
void run_slices(const BlockCall& c) {
  for (std::int64_t r = 0; r < c.rows; r += kSlice) {
    const float* a = c.a + r / kPanel * c.tiles * kTileWords + r % kPanel * kPanel;
    if (c.columns > 2 * kPanel) {
      run_slice<Step, 3>(a, c.b, c.tiles, c.sums + r * kBlockColumns);
    } else if (c.columns > kPanel) {
      run_slice<Step, 2>(a, c.b, c.tiles, c.sums + r * kBlockColumns);
    } else {
      run_slice<Step, 1>(a, c.b, c.tiles, c.sums + r * kBlockColumns);
    }
  }
}

struct Lanes16 {
  static __m512 load(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
  static __m512 load(const Bf16* p, __mmask16 m) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static __m512 load(const Half* p, __mmask16 m) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
  }
  static void store(float* p, __mmask16 m, __m512 x) { _mm512_mask_storeu_ps(p, m, x); }
  /// As from_float<Bf16>: to nearest even, NaN kept, subnormal values too.
  static void store(Bf16* p, __mmask16 m, __m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i kept = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    const __m512i result = _mm512_mask_mov_epi32(rounded, nan, kept);
    _mm256_mask_storeu_epi16(p, m, _mm512_cvtepi32_epi16(result));
  }
  static void store(Half* p, __mmask16 m, __m512 x) {
    _mm256_mask_storeu_epi16(p, m, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
};

template <class C>
void store(const StoreCall& s) {
  for (std::int64_t r = 0; r < s.rows; ++r) {
    C* c = reinterpret_cast<C*>(s.c) + r * s.c_stride;
    for (std::int64_t j = 0; j < s.columns; j += kPanel) {
      const std::int64_t left = s.columns - j;
      const auto mask = static_cast<__mmask16>(left >= kPanel ? 0xFFFFU : (1U << left) - 1U);
      __m512 sum = _mm512_load_ps(s.sums + r * kBlockColumns + j);
      if (s.earlier != nullptr) {
        sum = _mm512_add_ps(Lanes16::load(s.earlier + r * s.earlier_stride + j, mask), sum);
      }
      if (s.add) sum = _mm512_add_ps(Lanes16::load(c + j, mask), sum);
      Lanes16::store(c + j, mask, sum);
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
constexpr int kSumStride = kBlockColumns * static_cast<int>(sizeof(float));

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
  _tile_stored(2, c.sums + kPanel * kBlockColumns, kSumStride);
  _tile_stored(3, c.sums + kPanel * kBlockColumns + kPanel, kSumStride);
}

void store_avx512(const StoreCall& call) {
  if (call.c_type == DType::f32) return store<float>(call);
  if (call.c_type == DType::bf16) return store<Bf16>(call);
  store<Half>(call);
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
void store_avx512(const StoreCall&) {
  fail("product", "this kernel needs AVX-512");
}
AmxTiles::AmxTiles(bool wanted) : wanted_{wanted} {}
AmxTiles::~AmxTiles() = default;
}  // namespace shoal::ops::cpu

#endif
